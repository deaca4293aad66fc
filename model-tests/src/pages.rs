//! A mock of EL2's page operations.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use io_pgtable::Pa;
use mem_protect::{InUse, NoMemory, PageOps, PageRange};
use smmu_model::Memory;

use crate::defects::has_defect;

/// Page operations, and the set of donated pages.
#[derive(Clone)]
pub struct Pages {
    mem: Memory,
    mapped: Rc<RefCell<BTreeSet<u64>>>,
    donated: Rc<RefCell<BTreeSet<u64>>>,
    hook: LoadHook,
    /// Number of pages mapped and of words fetched.
    work: Rc<Cell<(u64, u64)>>,
    /// Lines cleaned and invalidated for a host whose CR1 makes the memory non-cacheable.
    cleaned_lines: Rc<Cell<u64>>,
}

/// A hook called right after EL2 read a word of host memory, with its address.
pub type LoadHook = Rc<RefCell<Option<Box<dyn FnMut(u64)>>>>;

impl Pages {
    /// Page operations on `mem`.
    #[must_use]
    pub fn new(mem: Memory) -> Self {
        Self {
            mem,
            mapped: Rc::default(),
            donated: Rc::default(),
            hook: LoadHook::default(),
            work: Rc::default(),
            cleaned_lines: Rc::default(),
        }
    }

    /// Number of lines cleaned and invalidated for a host whose CR1 makes the memory non-cacheable.
    #[must_use]
    pub fn cleaned_lines(&self) -> u64 {
        self.cleaned_lines.get()
    }

    /// Number of pages mapped and of words fetched.
    #[must_use]
    pub fn work(&self) -> (u64, u64) {
        self.work.get()
    }

    /// The hook that runs after each word of host memory that EL2 reads.
    #[must_use]
    pub fn load_hook(&self) -> LoadHook {
        self.hook.clone()
    }

    /// Resets it: no mapped or donated pages, no hook.
    pub(crate) fn reset(&self) {
        self.mapped.borrow_mut().clear();
        self.donated.borrow_mut().clear();
        *self.hook.borrow_mut() = None;
    }

    /// Pages that EL2 maps because they are claimed or donated.
    #[must_use]
    pub fn mapped(&self) -> usize {
        self.mapped.borrow().len()
    }
}

fn bytes(range: PageRange) -> std::ops::Range<u64> {
    range.pa().0..range.pa().0 + range.bytes()
}

impl PageOps for Pages {
    fn map(&mut self, range: PageRange) -> Result<(), NoMemory> {
        self.mapped.borrow_mut().extend(range.pfns());
        let (pages, loads) = self.work.get();
        self.work.set((pages + range.count(), loads));
        Ok(())
    }

    fn unmap(&mut self, range: PageRange) {
        self.mapped.borrow_mut().retain(|pfn| !range.pfns().any(|gone| gone == *pfn));
    }

    fn clean_invalidate(&mut self, range: PageRange) {
        if has_defect("not-cleaned") {
            return;
        }
        self.mem.clean(bytes(range));
        self.mem.invalidate(bytes(range));
    }

    fn zero(&mut self, range: PageRange) {
        if has_defect("not-zeroed") {
            return;
        }
        self.mem.cpu_fill(bytes(range).step_by(8), 0);
        self.mem.clean(bytes(range));
    }

    fn add_to_pool(&mut self, range: PageRange) {
        self.donated.borrow_mut().extend(range.pfns());
    }

    fn remove_from_pool(&mut self, range: PageRange) -> Result<(), InUse> {
        let mut donated = self.donated.borrow_mut();
        if range.pfns().any(|pfn| !donated.contains(&pfn)) {
            return Err(InUse);
        }
        for pfn in range.pfns() {
            donated.remove(&pfn);
        }
        Ok(())
    }

    fn clean_invalidate_bytes(&self, pa: Pa, bytes: u64) {
        let line = pa.0 & !7..(pa.0 & !7) + bytes.next_multiple_of(8);
        self.mem.clean(line.clone());
        self.mem.invalidate(line);
        self.cleaned_lines.set(self.cleaned_lines.get() + 1);
    }

    fn load64(&self, pa: Pa) -> u64 {
        let word = self.mem.cpu_read64(pa.0);
        let (pages, loads) = self.work.get();
        self.work.set((pages, loads + 1));
        if let Some(hook) = self.hook.borrow_mut().as_mut() {
            hook(pa.0);
        }
        word
    }

    fn store64(&mut self, pa: Pa, value: u64) {
        self.mem.cpu_write64(pa.0, value);
    }

    fn store32(&mut self, pa: Pa, value: u32) {
        self.mem.cpu_write32(pa.0, value);
    }
}

//! A hook at every live store and barrier, so that tests can walk the table at each intermediate state.

use std::boxed::Box;
use std::cell::RefCell;

/// What happened.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// The word at this address of this program, in a live table, was stored to.
    Stored(usize),
    /// What was stored and cleaned is visible to whoever looks from here on.
    Published,
}

type Observer = Box<dyn FnMut(Event)>;

std::thread_local! {
    static OBSERVER: RefCell<Option<Observer>> = const { RefCell::new(None) };
}

/// Calls the observer of this thread, if there is one. What the observer itself does is not observed.
pub(super) fn tell(event: Event) {
    let taken = OBSERVER.with(|cell| cell.borrow_mut().take());
    if let Some(mut observer) = taken {
        observer(event);
        OBSERVER.with(|cell| *cell.borrow_mut() = Some(observer));
    }
}

/// Runs `body` with `observer` called for each event of this thread.
pub(crate) fn observe<T>(observer: impl FnMut(Event) + 'static, body: impl FnOnce() -> T) -> T {
    OBSERVER.with(|cell| *cell.borrow_mut() = Some(Box::new(observer)));
    let result = body();
    OBSERVER.with(|cell| *cell.borrow_mut() = None);
    result
}

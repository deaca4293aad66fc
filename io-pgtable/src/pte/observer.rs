//! A hook at every live store and barrier, so that tests can walk the table at each intermediate state.

use std::boxed::Box;
use std::cell::RefCell;

/// An observed store or barrier.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// The program stored to a word of a live table, at this address of the program.
    Stored(usize),
    /// Earlier stores and cleans are now visible to all observers.
    Published,
}

type Observer = Box<dyn FnMut(Event)>;

std::thread_local! {
    static OBSERVER: RefCell<Option<Observer>> = const { RefCell::new(None) };
}

/// Calls the observer of this thread, if there is one. Accesses by the observer itself are not reported.
pub(super) fn notify(event: Event) {
    let taken = OBSERVER.with(|cell| cell.borrow_mut().take());
    if let Some(mut observer) = taken {
        observer(event);
        OBSERVER.with(|cell| *cell.borrow_mut() = Some(observer));
    }
}

/// Calls `body`; during the call `observer` gets each event of this thread.
pub(crate) fn observe<T>(observer: impl FnMut(Event) + 'static, body: impl FnOnce() -> T) -> T {
    OBSERVER.with(|cell| *cell.borrow_mut() = Some(Box::new(observer)));
    let result = body();
    OBSERVER.with(|cell| *cell.borrow_mut() = None);
    result
}

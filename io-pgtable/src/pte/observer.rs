//! A hook after every live store, so that tests can walk the table at each intermediate state.

use std::boxed::Box;
use std::cell::RefCell;

std::thread_local! {
    static OBSERVER: RefCell<Option<Box<dyn FnMut()>>> = const { RefCell::new(None) };
}

/// Calls the observer of this thread, if there is one. Stores made by the observer itself are not observed.
pub(super) fn stored() {
    let taken = OBSERVER.with(|cell| cell.borrow_mut().take());
    if let Some(mut observer) = taken {
        observer();
        OBSERVER.with(|cell| *cell.borrow_mut() = Some(observer));
    }
}

/// Runs `body` with `observer` called after each live store of this thread.
pub(crate) fn observe<T>(observer: impl FnMut() + 'static, body: impl FnOnce() -> T) -> T {
    OBSERVER.with(|cell| *cell.borrow_mut() = Some(Box::new(observer)));
    let result = body();
    OBSERVER.with(|cell| *cell.borrow_mut() = None);
    result
}

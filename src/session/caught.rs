//! A future whose panic is a value: one session's fault ends that session with a word, never the process.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

/// The wrapped future panicked; the message went to the log through the panic hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Panicked;

/// Polls a boxed future and turns its panic into [`Panicked`].
pub(super) struct Caught<F>(Pin<Box<F>>);

impl<F: Future> Caught<F> {
    pub(super) fn new(future: F) -> Self {
        Self(Box::pin(future))
    }
}

impl<F: Future> Future for Caught<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // What the future borrowed may be half changed; callers use it only to say goodbye.
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_a_value_and_other_results_pass_through() {
        assert_eq!(Caught::new(async { 7 }).await, Ok(7));
        let fault = Caught::new(async {
            tokio::task::yield_now().await;
            panic!("on purpose")
        });
        let outcome: Result<(), Panicked> = fault.await;
        assert_eq!(outcome, Err(Panicked));
    }
}

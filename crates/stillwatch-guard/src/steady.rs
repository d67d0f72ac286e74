//! A connection that wakes itself while it is polled goes on at once.
//!
//! hyper's server wakes its own task whenever a service reads a request's body, because
//! that is how the body asks its connection for more. tokio takes a task that wakes itself
//! for one that steps back: it queues it and wakes another worker, so that each exchange
//! would cost a system call and move between processors. Here such a wake means «poll
//! again», and tokio hears of the others only.

use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Polls in a row; after them the other tasks have their turn.
const POLLS: u8 = 8;

const IDLE: u8 = 0;
const POLLED: u8 = 1;
/// Polled, and woken meanwhile.
const WOKEN: u8 = 2;

/// A future that is polled again when it wakes itself.
#[derive(Debug)]
pub struct Steady<F> {
    future: Pin<Box<F>>,
    /// What the future is given instead of its task's waker.
    waker: Waker,
    own: Arc<Own>,
}

#[derive(Debug)]
struct Own {
    state: AtomicU8,
    task: Mutex<Waker>,
}

impl Wake for Own {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let noted = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            (state != IDLE).then_some(WOKEN)
        });
        if noted.is_err() {
            self.task.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
        }
    }
}

impl<F> Steady<F> {
    pub fn new(future: F) -> Self {
        let task = Mutex::new(Waker::noop().clone());
        let own = Arc::new(Own { state: AtomicU8::new(IDLE), task });
        Steady { future: Box::pin(future), waker: Waker::from(Arc::clone(&own)), own }
    }
}

impl<F: Future> Future for Steady<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Steady { future, waker, own } = self.get_mut();
        own.task.lock().unwrap_or_else(PoisonError::into_inner).clone_from(cx.waker());
        for _ in 0..POLLS {
            own.state.store(POLLED, Ordering::Release);
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(waker)) {
                return Poll::Ready(output);
            }
            if own.state.swap(IDLE, Ordering::AcqRel) == POLLED {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Wakes itself so many times, then waits.
    struct Restless {
        left: u32,
        polls: u32,
        held: Option<Waker>,
    }

    impl Future for Restless {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            self.polls += 1;
            if self.left > 0 {
                self.left -= 1;
                cx.waker().wake_by_ref();
            }
            self.held = Some(cx.waker().clone());
            Poll::Pending
        }
    }

    /// How often the future was polled and the task woken, of one poll and one wake later.
    fn polled(left: u32) -> (u32, usize, usize) {
        let task = Arc::new(Task::default());
        let waker = Waker::from(Arc::clone(&task));
        let mut steady = Steady::new(Restless { left, polls: 0, held: None });
        let _ = Pin::new(&mut steady).poll(&mut Context::from_waker(&waker));
        let woken = task.0.load(Ordering::Relaxed);
        steady.future.held.take().unwrap().wake();
        (steady.future.polls, woken, task.0.load(Ordering::Relaxed) - woken)
    }

    #[test]
    fn what_wakes_itself_is_polled_again_and_its_task_is_not_woken() {
        assert_eq!(polled(0), (1, 0, 1));
        assert_eq!(polled(3), (4, 0, 1));
    }

    #[test]
    fn others_have_their_turn() {
        assert_eq!(polled(1000), (u32::from(POLLS), 1, 1));
    }
}

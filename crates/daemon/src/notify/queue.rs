//! A queue with a bound, from many to one.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// What waits. When it is full, the oldest goes for the newest.
#[derive(Debug)]
pub(super) struct Queue<T> {
    inner: Mutex<Inner<T>>,
    changed: Notify,
    bound: usize,
}

#[derive(Debug)]
struct Inner<T> {
    waiting: VecDeque<T>,
    /// One was taken and is not done.
    busy: bool,
    closed: bool,
}

/// What became of something that was put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It waits.
    Waits,
    /// It waits, and the oldest does not any more.
    Displaced,
    /// The queue takes nothing more.
    Refused,
}

impl<T> Queue<T> {
    /// For so many that wait, from 1 on.
    pub(super) const fn new(bound: usize) -> Self {
        Self {
            inner: Mutex::new(Inner {
                waiting: VecDeque::new(),
                busy: false,
                closed: false,
            }),
            changed: Notify::const_new(),
            bound,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, item: T) -> Put {
        let mut inner = self.inner();
        if inner.closed {
            return Put::Refused;
        }
        inner.waiting.push_back(item);
        let full = inner.waiting.len() > self.bound;
        if full {
            inner.waiting.pop_front();
        }
        drop(inner);
        self.changed.notify_one();
        if full { Put::Displaced } else { Put::Waits }
    }

    /// The next one, when the one before it is done; none: the queue is closed and empty.
    pub(super) async fn next(&self) -> Option<T> {
        loop {
            {
                let mut inner = self.inner();
                let next = inner.waiting.pop_front();
                inner.busy = next.is_some();
                if next.is_some() || inner.closed {
                    return next;
                }
            }
            self.changed.notified().await;
        }
    }

    /// How many are not done.
    pub(super) fn len(&self) -> usize {
        let inner = self.inner();
        inner.waiting.len() + usize::from(inner.busy)
    }

    /// Takes nothing more; what waits stays.
    pub(super) fn close(&self) {
        self.inner().closed = true;
        self.changed.notify_one();
    }

    /// Empties it for good, and says how many were not done.
    pub(super) fn clear(&self) -> usize {
        let mut inner = self.inner();
        inner.closed = true;
        let left = inner.waiting.len() + usize::from(inner.busy);
        inner.waiting.clear();
        inner.busy = false;
        left
    }
}

//! `GET /v1/connections`: the table as a stream of lines. It is gone through in slices,
//! between which others get the director's lock, and no faster than the lines are read:
//! a listing of millions takes neither much memory nor the daemon's time from others.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use anyhow::bail;
use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use evenkeel_api::connections::{Query, encode};
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::mpsc::{self, Sender};

use crate::shared::Shared;

/// Bytes of lines that are handed on at a time, or a slice's more.
const PART_BYTES: usize = 64 << 10;
/// Parts that are made ahead of the reader.
const PARTS_AHEAD: usize = 4;
/// Buckets of the connection table that are gone through under the lock.
const SLICE: usize = 256;
/// Longest that a reader may take for a part: somebody may be turning pages.
const READER_TIMEOUT: Duration = Duration::from_mins(10);

/// What goes from the table to the reader.
enum Part {
    Lines(Bytes),
    /// There are no more. Without this the answer ends as broken off.
    End,
}

/// The connections that are asked for, a line each.
pub(crate) fn answer(shared: Arc<Shared>, query: Query) -> Response {
    let (send, mut receive) = mpsc::channel(PARTS_AHEAD);
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || {
        let mut reader = Reader {
            lines: Vec::with_capacity(2 * PART_BYTES),
            send,
            runtime,
            left: query.limit.unwrap_or(u64::MAX),
        };
        if let Err(error) = list(&shared, &query, &mut reader).and_then(|()| reader.end()) {
            tracing::debug!("a listing of connections ended early: {error:#}");
        }
    });
    let mut ended = false;
    let stream = futures_util::stream::poll_fn(move |context| {
        if ended {
            return Poll::Ready(None);
        }
        receive.poll_recv(context).map(|part| match part {
            Some(Part::Lines(lines)) => Some(Ok(lines)),
            Some(Part::End) => {
                ended = true;
                None
            }
            None => {
                ended = true;
                Some(Err("the listing was broken off"))
            }
        })
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (kind, Body::from_stream(stream)).into_response()
}

fn list(shared: &Shared, query: &Query, reader: &mut Reader) -> anyhow::Result<()> {
    if reader.left == 0 {
        return Ok(());
    }
    let mut next = Some(0);
    while let Some(first) = next {
        next = shared.connections(&query.filter, first, SLICE, &mut |view| {
            encode(&mut reader.lines, &view);
            reader.left -= 1;
            if reader.left == 0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        if reader.lines.len() >= PART_BYTES {
            reader.hand_on()?;
        }
    }
    Ok(())
}

/// Where the lines go.
struct Reader {
    lines: Vec<u8>,
    send: Sender<Part>,
    runtime: Handle,
    /// Lines that are still wanted.
    left: u64,
}

impl Reader {
    /// Hands on what there is; an error when nobody reads any more.
    fn hand_on(&mut self) -> anyhow::Result<()> {
        let lines = std::mem::replace(&mut self.lines, Vec::with_capacity(2 * PART_BYTES));
        self.send(Part::Lines(lines.into()))
    }

    fn end(&mut self) -> anyhow::Result<()> {
        self.hand_on()?;
        self.send(Part::End)
    }

    fn send(&self, part: Part) -> anyhow::Result<()> {
        let send = self.send.send_timeout(part, READER_TIMEOUT);
        match self.runtime.block_on(send) {
            Ok(()) => Ok(()),
            Err(SendTimeoutError::Closed(_)) => bail!("the reader has gone"),
            Err(SendTimeoutError::Timeout(_)) => bail!(
                "the reader has taken nothing for {} s",
                READER_TIMEOUT.as_secs()
            ),
        }
    }
}

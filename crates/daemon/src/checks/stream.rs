//! Dialogues over a connection, plain or by TLS.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context as Waker, Poll, ready};
use std::time::Duration;

use evenkeel_core::model::{Connect, Tls};
use evenkeel_core::probe::{Dialogue, Next, Verdict};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

use super::Context;
use super::connect::{self, within};
use super::words;

/// Bytes that are read at a time. They lie on the stack while a dialogue looks at them, so
/// that a check that waits has no buffer.
const AT_ONCE: usize = 8 << 10;

/// TLS for a connection, and the name that the server goes by.
#[derive(Clone, Copy)]
pub(super) struct Secured<'a> {
    pub(super) tls: &'a Tls,
    /// The name where `tls` gives none.
    pub(super) name: Option<&'a str>,
}

/// When TLS begins.
#[derive(Clone, Copy)]
pub(super) enum Security<'a> {
    /// Never.
    Plain,
    /// With the connection.
    AtOnce(Secured<'a>),
    /// When the dialogue asks for it.
    OnRequest(Secured<'a>),
}

impl<'a> Security<'a> {
    /// TLS from the start, where it is given.
    pub(super) fn of(tls: Option<&'a Tls>, name: Option<&'a str>) -> Self {
        tls.map_or(Self::Plain, |tls| Self::AtOnce(Secured { tls, name }))
    }
}

/// Has a dialogue with a server on a connection of its own.
pub(super) async fn converse(
    connect: &Connect,
    security: Security<'_>,
    dialogue: &mut (dyn Dialogue + Send),
    context: &Context,
) -> Verdict {
    let result = try_converse(connect, security, dialogue, context).await;
    result.unwrap_or_else(Verdict::Failed)
}

async fn try_converse(
    connect: &Connect,
    security: Security<'_>,
    dialogue: &mut (dyn Dialogue + Send),
    context: &Context,
) -> Result<Verdict, String> {
    // Before the server waits for us.
    let secured = match security {
        Security::Plain => None,
        Security::AtOnce(secured) | Security::OnRequest(secured) => {
            let (time, blocking) = (connect.timeout, &context.blocking);
            let connector = context.tls.connector(secured.tls, time, blocking).await?;
            Some((connector, secured))
        }
    };
    let mut stream = connect::tcp(connect).await?;
    if !matches!(security, Security::AtOnce(_)) {
        match drive(&mut stream, dialogue, connect.timeout, Reset::Fails).await {
            Outcome::Over(verdict) => return Ok(verdict),
            Outcome::Secure => {}
        }
    }
    let Some((connector, secured)) = secured else {
        return Err("the dialogue asks for TLS that is not configured".into());
    };
    let mut stream = connector.connect(stream, connect, secured.name).await?;
    match drive(&mut stream, dialogue, connect.timeout, Reset::Ends).await {
        Outcome::Over(verdict) => Ok(verdict),
        Outcome::Secure => Err("the dialogue asks for TLS within TLS".into()),
    }
}

/// Where [`drive`] stops.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is over.
    Over(Verdict),
    /// TLS has to begin, then it goes on.
    Secure,
}

/// What it means that the other side resets the connection within an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reset {
    /// The check fails.
    Fails,
    /// The answer is over, as if the connection had been closed: by TLS, where servers are
    /// used to end in all manners.
    Ends,
}

/// Carries a dialogue's bytes. Whatever it sends, and each answer as a whole, may take so
/// long and no longer.
pub(super) async fn drive<S>(
    stream: &mut S,
    dialogue: &mut (dyn Dialogue + Send),
    time: Duration,
    reset: Reset,
) -> Outcome
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut next = dialogue.connected();
    loop {
        let (bytes, then) = match next {
            Next::Send(bytes) => (bytes, Then::Read),
            Next::Read => (Vec::new(), Then::Read),
            Next::Secure(bytes) => (bytes, Then::Over(Outcome::Secure)),
            Next::Done(verdict) => return Outcome::Over(verdict),
            Next::Bye(bytes, verdict) => {
                // Whatever becomes of it, the verdict stands.
                if send(stream, &bytes, time).await.is_ok() {
                    let _ = timeout(time, closed(stream)).await;
                }
                return Outcome::Over(verdict);
            }
        };
        if let Err(reason) = send(stream, &bytes, time).await {
            return Outcome::Over(Verdict::Failed(reason));
        }
        if let Then::Over(outcome) = then {
            return outcome;
        }
        next = match receive(stream, dialogue, time, reset).await {
            Ok(next) => next,
            Err(reason) => return Outcome::Over(Verdict::Failed(reason)),
        };
    }
}

enum Then {
    Read,
    Over(Outcome),
}

async fn send<S>(stream: &mut S, bytes: &[u8], time: Duration) -> Result<(), String>
where
    S: AsyncWrite + Unpin,
{
    if bytes.is_empty() {
        return Ok(());
    }
    let work = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    match timeout(time, work).await {
        Ok(result) => result.map_err(|error| words::error(&error)),
        Err(_) => Err(format!(
            "it took none of what was sent within {}",
            words::duration(time)
        )),
    }
}

/// Reads until the dialogue wants something else.
async fn receive<S>(
    stream: &mut S,
    dialogue: &mut (dyn Dialogue + Send),
    time: Duration,
    reset: Reset,
) -> Result<Next, String>
where
    S: AsyncRead + Unpin,
{
    let mut has_begun = false;
    // One limit around all reads: a stream that is always ready gives way to it, because
    // the runtime makes every reader pause now and then.
    let reading = async {
        loop {
            match poll_fn(|waker| poll_answer(stream, dialogue, waker)).await {
                Ok(Next::Read) => has_begun = true,
                Err(error)
                    if has_begun
                        && reset == Reset::Ends
                        && error.kind() == io::ErrorKind::ConnectionReset =>
                {
                    return Ok(Next::Done(dialogue.closed()));
                }
                other => return other,
            }
        }
    };
    let result: Result<io::Result<Next>, _> = timeout(time, reading).await;
    match result {
        Ok(result) => result.map_err(|error| words::error(&error)),
        Err(_) if has_begun => Err(format!(
            "the answer was not complete within {}",
            words::duration(time)
        )),
        Err(_) => Err(words::missing("answer", time)),
    }
}

fn poll_answer<S>(
    stream: &mut S,
    dialogue: &mut (dyn Dialogue + Send),
    waker: &mut Waker<'_>,
) -> Poll<io::Result<Next>>
where
    S: AsyncRead + Unpin,
{
    let mut memory = [0; AT_ONCE];
    let mut buffer = ReadBuf::new(&mut memory);
    let result = ready!(Pin::new(stream).poll_read(waker, &mut buffer));
    Poll::Ready(match result {
        Ok(()) if buffer.filled().is_empty() => Ok(Next::Done(dialogue.closed())),
        Ok(()) => Ok(dialogue.received(buffer.filled())),
        // TLS that ended without saying so. What the answer says of its own length is the
        // dialogue's to see.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Ok(Next::Done(dialogue.closed()))
        }
        Err(error) => Err(error),
    })
}

/// Reads and forgets until the other side closes.
async fn closed<S: AsyncRead + Unpin>(stream: &mut S) {
    loop {
        let read = poll_fn(|waker| {
            let mut memory = [0; AT_ONCE];
            let mut buffer = ReadBuf::new(&mut memory);
            let result = ready!(Pin::new(&mut *stream).poll_read(waker, &mut buffer));
            Poll::Ready(result.map(|()| buffer.filled().len()))
        });
        if matches!(read.await, Ok(0) | Err(_)) {
            return;
        }
    }
}

/// A TCP connection, and nothing else.
pub(super) async fn connects(connect: &Connect) -> Verdict {
    let began = std::time::Instant::now();
    match connect::tcp(connect).await {
        Ok(_) => Verdict::Passed(format!("connected in {}", words::duration(began.elapsed()))),
        Err(reason) => Verdict::Failed(reason),
    }
}

/// A handshake within the connection's time.
pub(super) async fn handshake<T>(
    connect: &Connect,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, String> {
    within(connect.timeout, "TLS handshake", work).await
}

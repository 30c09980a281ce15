//! The API on the control socket; see `evenkeel-api` for its paths and types.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use evenkeel_api::connections::Query;
use evenkeel_api::{
    EditRequest, Problem, REQUEST_BYTES_MAX, Reloaded, SAMPLED, StopRequest, StopResponse, escape,
    keys, trace,
};
use evenkeel_core::director::AsOf;
use evenkeel_core::model::ServiceKey;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::connections;
use crate::shared::{Shared, Stop};

/// Longest that a request's body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The API of this daemon.
pub fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/services", get(services))
        .route("/v1/connections", get(list_connections))
        .route("/v1/reload", post(reload))
        .route("/v1/settings", get(settings))
        .route("/v1/trace", get(trace_packet))
        .route("/v1/timeouts", get(timeouts))
        .route("/v1/edits", post(edits))
        .route("/v1/stop", post(stop))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(shared)
}

/// A refusal of a request as a whole.
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        json(self.0, &Problem { message: self.1 })
    }
}

fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Reads a request's body, but not more of it than is allowed nor for longer.
async fn body(request: Body) -> Result<Vec<u8>, Refused> {
    match tokio::time::timeout(BODY_TIMEOUT, gather(request)).await {
        Ok(read) => read,
        Err(_) => Err(Refused(
            StatusCode::REQUEST_TIMEOUT,
            format!(
                "the request's body did not arrive within {} s",
                BODY_TIMEOUT.as_secs()
            ),
        )),
    }
}

/// Reads a body into one piece. A large one is not kept in parts beside that: fresh memory
/// takes longer than reading.
async fn gather(mut request: Body) -> Result<Vec<u8>, Refused> {
    // As it says itself; what it does not say is counted while it is read.
    let said = usize::try_from(request.size_hint().lower()).unwrap_or(usize::MAX);
    let mut bytes = Vec::new();
    if said <= REQUEST_BYTES_MAX {
        bytes.reserve_exact(said);
    }
    let mut length = said;
    while length <= REQUEST_BYTES_MAX {
        let frame = poll_fn(|context| Pin::new(&mut request).poll_frame(context)).await;
        let Some(frame) = frame else {
            return Ok(bytes);
        };
        let frame = frame.map_err(|error| {
            Refused(
                StatusCode::BAD_REQUEST,
                format!("the request's body did not arrive whole: {error}"),
            )
        })?;
        // What else there may be are headers after the body.
        if let Ok(data) = frame.into_data() {
            length = length.max(bytes.len() + data.len());
            if length <= REQUEST_BYTES_MAX {
                bytes.extend_from_slice(&data);
            }
        }
    }
    Err(Refused(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the request is longer than {REQUEST_BYTES_MAX} bytes; send it in parts"),
    ))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refused> {
    let refused = |error: &dyn std::fmt::Display| {
        Refused(
            StatusCode::BAD_REQUEST,
            format!("the request makes no sense: {error}"),
        )
    };
    // Checked as a whole, since a check of each string by itself takes longer.
    let text = std::str::from_utf8(bytes).map_err(|error| refused(&error))?;
    serde_json::from_str(text).map_err(|error| refused(&error))
}

/// Work that blocks, on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refused> {
    tokio::task::spawn_blocking(work).await.map_err(|_| {
        Refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the daemon failed to process the request; see its log".into(),
        )
    })
}

async fn status(State(shared): State<Arc<Shared>>) -> Result<Response, Refused> {
    blocking(move || json(StatusCode::OK, &shared.status())).await
}

async fn services(
    State(shared): State<Arc<Shared>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refused> {
    let (only, as_of) = which_services(query.as_deref().unwrap_or_default())?;
    blocking(move || match shared.services(only.as_ref(), as_of) {
        Some(services) => Ok(json(StatusCode::OK, &services)),
        None => Err(Refused(StatusCode::NOT_FOUND, "no such service".into())),
    })
    .await?
}

async fn list_connections(
    State(shared): State<Arc<Shared>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refused> {
    let query = Query::from_text(query.as_deref().unwrap_or_default())
        .map_err(|message| Refused(StatusCode::BAD_REQUEST, message))?;
    Ok(connections::answer(shared, query))
}

async fn reload(State(shared): State<Arc<Shared>>) -> Result<Response, Refused> {
    let refused = |error| Refused(StatusCode::UNPROCESSABLE_ENTITY, format!("{error:#}"));
    blocking(move || match shared.reload() {
        Ok(warnings) => Ok(json(StatusCode::OK, &Reloaded { warnings })),
        Err(error) => Err(refused(error)),
    })
    .await?
}

async fn settings(State(shared): State<Arc<Shared>>) -> Result<Response, Refused> {
    blocking(move || json(StatusCode::OK, &shared.settings())).await
}

async fn trace_packet(
    State(shared): State<Arc<Shared>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refused> {
    let query = trace::Query::from_text(query.as_deref().unwrap_or_default())
        .map_err(|message| Refused(StatusCode::BAD_REQUEST, message))?;
    let refused = |error| Refused(StatusCode::UNPROCESSABLE_ENTITY, format!("{error:#}"));
    blocking(move || match crate::trace::answer(&shared, &query) {
        Ok(trace) => Ok(json(StatusCode::OK, &trace)),
        Err(error) => Err(refused(error)),
    })
    .await?
}

async fn timeouts(State(shared): State<Arc<Shared>>) -> Result<Response, Refused> {
    blocking(move || json(StatusCode::OK, &shared.timeouts())).await
}

async fn edits(State(shared): State<Arc<Shared>>, request: Body) -> Result<Response, Refused> {
    let bytes = body(request).await?;
    blocking(move || {
        let request: EditRequest = parse(&bytes)?;
        drop(bytes);
        Ok(json(StatusCode::OK, &shared.apply(&request)))
    })
    .await?
}

async fn stop(State(shared): State<Arc<Shared>>, request: Body) -> Result<Response, Refused> {
    let request: StopRequest = parse(&body(request).await?)?;
    blocking(move || {
        if request.detach {
            let left = left_behind(&shared);
            shared.stop(Stop::Detach);
            return Ok(json(StatusCode::OK, &StopResponse { left }));
        }
        shared
            .dataplane()
            .detach_all()
            .map_err(|error| Refused(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")))?;
        shared.stop(Stop::Remove);
        Ok(json(StatusCode::OK, &StopResponse { left: Vec::new() }))
    })
    .await?
}

/// A number of things.
fn counted(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// What goes on without a daemon, a line each.
fn left_behind(shared: &Shared) -> Vec<String> {
    let status = shared.status();
    let on: Vec<String> = status
        .interfaces
        .iter()
        .filter(|interface| interface.hook != "none")
        .map(|interface| format!("the packet path on {}: {}", interface.name, interface.hook))
        .collect();
    let mut left = on;
    left.push(format!(
        "{}, {} and {}",
        counted(status.services.into(), "service"),
        counted(status.servers.into(), "server"),
        counted(status.connections.in_use, "connection")
    ));
    left.push(format!(
        "the maps and programs in {}",
        evenkeel_api::paths::pins(&status.instance).display()
    ));
    left.push("without a daemon connections do not expire, and next hops are not followed".into());
    left
}

async fn unknown_path() -> Refused {
    Refused(
        StatusCode::NOT_FOUND,
        "there is no such path in this API".into(),
    )
}

async fn wrong_method() -> Refused {
    Refused(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path takes another method".into(),
    )
}

/// The service in `service=tcp:10.0.0.1:80`, and what `counters=sampled` asks for.
fn which_services(query: &str) -> Result<(Option<ServiceKey>, AsOf), Refused> {
    let (mut only, mut as_of) = (None, AsOf::Now);
    for part in query.split('&').filter(|part| !part.is_empty()) {
        if part == SAMPLED {
            as_of = AsOf::LastSample;
            continue;
        }
        let named = part
            .strip_prefix("service=")
            .and_then(escape::unescape)
            .and_then(|name| keys::service(&name));
        only = Some(named.ok_or_else(|| {
            Refused(
                StatusCode::BAD_REQUEST,
                format!(
                    "{part:?} is not understood; known are {SAMPLED} and service=NAME, \
                     where a name is {}",
                    keys::SERVICE_FORMS
                ),
            )
        })?);
    }
    Ok((only, as_of))
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_core::model::{Family, Protocol};

    #[test]
    fn services_in_queries() {
        let which = |query| which_services(query).ok();
        let key = |query| which(query)?.0;
        let expected = ServiceKey::at(Protocol::Tcp, [10, 0, 0, 1], 80);
        assert_eq!(key("service=tcp:10.0.0.1:80"), Some(expected));
        assert_eq!(key("service=tcp%3A10.0.0.1%3a80"), Some(expected));
        assert_eq!(which(""), Some((None, AsOf::Now)));
        assert_eq!(which("counters=sampled"), Some((None, AsOf::LastSample)));
        let both = which("counters=sampled&service=tcp:10.0.0.1:80");
        assert_eq!(both, Some((Some(expected), AsOf::LastSample)));
        let (mark, family) = (7, Family::V6);
        assert_eq!(
            key("service=mark:7:v6"),
            Some(ServiceKey::Mark { mark, family })
        );
        for wrong in [
            "service",
            "service=",
            "service=tcp",
            "x=1",
            "counters=live",
            "service=tcp:10.0.0.1:80%",
            "service=%zz",
        ] {
            assert_eq!(which(wrong), None, "{wrong}");
        }
        assert!(key("service=udp:[fd00::1]:53").is_some());
    }
}

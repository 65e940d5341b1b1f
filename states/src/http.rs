//! Requests and answers: bounds, the token, JSON.

use std::{pin::Pin, rc::Rc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_io_timeout::TimeoutStream;

use crate::{
    api::{self, NoOperation, Operation},
    graph::Graph,
    refusal::Refusal,
    room::Seat,
    token::Token,
};

/// Largest body, in bytes.
const BODY_MAX: usize = 16 << 20;
/// How long a client may take for a request's head, and then for its body.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);
const BODY_PATIENCE: Duration = Duration::from_secs(60);
/// How long a client may accept nothing of its answer.
const READ_PATIENCE: Duration = Duration::from_secs(30);
/// Request line and headers together, in bytes.
const HEAD_MAX: usize = 64 << 10;

/// A connection of either kind.
pub(crate) type Stream = Pin<Box<dyn ReadAndWrite>>;

/// What can be read and written.
pub(crate) trait ReadAndWrite: AsyncRead + AsyncWrite {}
impl<T: AsyncRead + AsyncWrite> ReadAndWrite for T {}

/// Serves one connection to its end.
pub(crate) async fn serve(stream: Stream, seat: Rc<Seat>, graph: Rc<Graph>, token: Rc<Token>) {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(READ_PATIENCE));
    let its = seat.clone();
    let service = service_fn(move |request| {
        let (seat, graph, token) = (its.clone(), graph.clone(), token.clone());
        async move { Ok::<_, std::convert::Infallible>(answer(request, &seat, graph, &token).await) }
    });
    let served = http1::Builder::new()
        // A client that will not ask anything else still wants its answer.
        .half_close(true)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    tokio::select! {
        served = served => if let Err(err) = served {
            tracing::debug!(%err, "a connection ended");
        },
        () = seat.turned_out() => tracing::debug!("a connection made room for another"),
    }
}

async fn answer(
    request: Request<Incoming>,
    seat: &Seat,
    graph: Rc<Graph>,
    token: &Token,
) -> Response<Full<Bytes>> {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let (mut allow, mut status) = (None, StatusCode::OK);
    let told = async {
        if !knows(token, request.uri().query()) {
            let words = "Invalid or missing token.";
            return Err(Refusal::new(StatusCode::UNAUTHORIZED, words));
        }
        let operation = Operation::of(&method, &path).map_err(|none| {
            if let NoOperation::NotAllowed(methods) = none {
                allow = Some(methods);
            }
            api::refusal(&none, &method, &path)
        })?;
        let body = body(request.into_body()).await?;
        // In a task of its own: what was begun is finished though its client has gone.
        let task = tokio::task::spawn_local(async move { operation.perform(&graph, &body).await });
        seat.during(task)
            .await
            .unwrap_or_else(|_| Err(Refusal::broken("This is a defect of the server's.")))
    };
    let json = told.await.unwrap_or_else(|refusal| {
        status = refusal.status;
        serde_json::json!({"error": refusal.words}).to_string()
    });
    let mut response = Response::new(Full::new(Bytes::from(json)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(methods) = allow {
        headers.insert(ALLOW, HeaderValue::from_static(methods));
    }
    if status == StatusCode::TOO_MANY_REQUESTS {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn knows(token: &Token, query: Option<&str>) -> bool {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .find(|(name, _)| name == "token")
        .is_some_and(|(_, value)| token.is(&value))
}

async fn body(body: Incoming) -> Result<Bytes, Refusal> {
    let collected = timeout(BODY_PATIENCE, Limited::new(body, BODY_MAX).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(err)) if err.is::<LengthLimitError>() => Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("The body is larger than {} MiB.", BODY_MAX >> 20),
        )),
        Ok(Err(err)) => Err(Refusal::bad(format!("The body cannot be read: {err}."))),
        Err(_) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            format!(
                "The body did not come within {} s.",
                BODY_PATIENCE.as_secs()
            ),
        )),
    }
}

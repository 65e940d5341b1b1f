//! Operations that concern other sessions or the supervisor, asked of it for the client.

use std::time::Duration;

use tithon_ipc::{
    client::{Connection, ConnectionError, Frame},
    paths::Home,
};

/// The supervisor asks every session; it answers within a second or so itself.
const LIMIT: Duration = Duration::from_secs(15);

/// The supervisor's answer to an operation, or an `error` frame that says why there is none.
pub(super) async fn to_supervisor(home: &Home, operation: &str) -> String {
    let failed = match tokio::time::timeout(LIMIT, ask(home, operation)).await {
        Ok(Ok(Some(answer))) => return answer,
        Ok(Ok(None)) => "the supervisor closed the connection".to_owned(),
        Ok(Err(err)) => err.to_string(),
        Err(_) => "the supervisor did not answer".to_owned(),
    };
    Frame::Error { message: &failed }.to_text()
}

async fn ask(home: &Home, operation: &str) -> Result<Option<String>, ConnectionError> {
    let mut connection = Connection::open(home).await?;
    connection.send_text(operation).await?;
    let answer = connection.next().await?.map(|text| text.to_string());
    connection.close().await;
    Ok(answer)
}

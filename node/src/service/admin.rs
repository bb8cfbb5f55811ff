//! The admin socket: mode 0600 in the home folder. Whoever may open it is the operator.

use std::path::Path;

use comity_http::dial::{CallError, Client};
use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::Failure;

/// The socket's name in a home.
pub const SOCKET: &str = "admin.sock";

/// # Errors
/// [`Failure`] where the service is not running, or refuses.
pub async fn get<T: DeserializeOwned>(home: &Path, path: &str) -> Result<T, Failure> {
    let client = Client::unix(home.join(SOCKET));
    client.call(Method::GET, path, None::<&()>).await.map_err(|error| failed(home, error))
}

/// # Errors
/// As [`get`].
pub async fn post<T: DeserializeOwned>(home: &Path, path: &str, body: &impl Serialize) -> Result<T, Failure> {
    let client = Client::unix(home.join(SOCKET));
    client.call(Method::POST, path, Some(body)).await.map_err(|error| failed(home, error))
}

/// # Errors
/// As [`get`].
pub async fn delete<T: DeserializeOwned>(home: &Path, path: &str) -> Result<T, Failure> {
    let client = Client::unix(home.join(SOCKET));
    client.call(Method::DELETE, path, None::<&()>).await.map_err(|error| failed(home, error))
}

/// As [`get`]; `None` where nothing runs there.
///
/// # Errors
/// [`Failure`] where the service refuses.
pub async fn get_if_running<T: DeserializeOwned>(home: &Path, path: &str) -> Result<Option<T>, Failure> {
    let client = Client::unix(home.join(SOCKET));
    some(home, client.call(Method::GET, path, None::<&()>).await)
}

/// As [`post`]; `None` where nothing runs there.
///
/// # Errors
/// As [`get_if_running`].
pub async fn post_if_running<T: DeserializeOwned>(
    home: &Path,
    path: &str,
    body: &impl Serialize,
) -> Result<Option<T>, Failure> {
    let client = Client::unix(home.join(SOCKET));
    some(home, client.call(Method::POST, path, Some(body)).await)
}

fn some<T>(home: &Path, answer: Result<T, CallError>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(CallError::Dial(_)) => Ok(None),
        Err(error) => Err(failed(home, error)),
    }
}

fn failed(home: &Path, error: CallError) -> Failure {
    match error {
        CallError::Remote(remote) => {
            let failure = Failure::new(format!("{}: {}", remote.code, remote.message));
            match remote.hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        }
        CallError::Dial(source) => Failure::new(format!("nothing answers at {}", home.join(SOCKET).display()))
            .because(source)
            .hint("this command talks to the running service: start it with `comity node|clearing run` first"),
        other @ CallError::Answer { .. } => Failure::from(other),
    }
}

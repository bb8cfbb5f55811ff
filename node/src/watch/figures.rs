//! The listener for Prometheus and for whoever asks whether a service is well: plain HTTP on loopback.

use std::net::SocketAddr;

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use comity_http::Server;
use comity_http::serve::{Drained, Limits};
use tokio_util::sync::CancellationToken;

use crate::failure::{Failure, While as _};

/// It serves until it is closed; nothing where no address was said.
pub struct Figures(Option<(CancellationToken, tokio::task::JoinHandle<Drained>)>);

impl Figures {
    /// # Errors
    /// [`Failure`] where the address is taken, or is not on loopback.
    pub async fn open(address: Option<SocketAddr>, router: Router) -> Result<Self, Failure> {
        let Some(address) = address else { return Ok(Self(None)) };
        let server = Server::bind_plain(address, Limits::default())
            .await
            .while_(format!("cannot serve figures on {address}"))
            .map_err(|failure| failure.hint("--metrics takes a loopback address, as 127.0.0.1:9464"))?;
        eprintln!("figures: {}/metrics", server.url().expect("a listener has an address"));
        let stop = CancellationToken::new();
        Ok(Self(Some((stop.clone(), tokio::spawn(server.run(router, stop))))))
    }

    pub async fn close(self) {
        if let Some((stop, server)) = self.0 {
            stop.cancel();
            let _ = server.await;
        }
    }
}

/// OpenMetrics' text, which Prometheus reads.
pub fn open_metrics(text: String) -> Response {
    let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(http::header::CONTENT_TYPE, form)], text).into_response()
}

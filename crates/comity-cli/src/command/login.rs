//! `comity login`: says at an issuer whose key this is.
//!
//! The clearing house talks to the issuer; this command shows a page and a code, or opens a door on loopback for the browser of
//! this computer, and brings back what came through it.

use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::routing::get;
use comity_sdk::Client;
use comity_wire::api::login::{LoginContinue, LoginReply, LoginRequest, LoginState};
use tokio::sync::mpsc;

use super::whoami;
use crate::printer::{Failure, note, say};
use crate::session::Session;

/// A door that nobody comes through is closed by the login's own end.
const PAGE: &str = "This window can be closed: the command goes on in the terminal.\n";

#[derive(Debug, clap::Args)]
pub struct Login {
    /// Which of the issuers that the clearing house believes; left out: the only one
    #[arg(long)]
    issuer: Option<String>,
    /// In a browser on this computer; without, a code is typed into any other device
    #[arg(long)]
    browser: bool,
    /// With a second factor: what a PI needs within twelve hours of drawing tokens
    #[arg(long)]
    mfa: bool,
    /// Show the issuers, and do nothing
    #[arg(long)]
    list: bool,
}

impl Login {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let client = session.look()?;
        if self.list {
            for issuer in client.issuers().await?.issuers {
                let device = if issuer.device { "" } else { " (--browser only)" };
                say(&format!("{} {}{device}", issuer.name, issuer.issuer));
            }
            return Ok(());
        }
        let done = if self.browser { self.in_browser(&client).await? } else { self.on_device(&client).await? };
        for ignored in &done.ignored {
            note(&format!("not believed: {ignored}"));
        }
        if let Some(who) = &done.whoami {
            whoami::show(who);
        }
        Ok(())
    }

    fn ask(&self, redirect: Option<String>) -> LoginRequest {
        LoginRequest { issuer: self.issuer.clone(), redirect, mfa: self.mfa }
    }

    async fn on_device(&self, client: &Client) -> Result<LoginState, Failure> {
        let login = client.login(&self.ask(None)).await?;
        note(&format!("open   {}", login.url));
        if let Some(code) = &login.user_code {
            note(&format!("type   {code}"));
        }
        note("only if you began this yourself: whoever types in a code says that this key is theirs");
        let mut wait = login.interval_s;
        loop {
            tokio::time::sleep(Duration::from_secs(wait)).await;
            let state = client.login_go_on(&login.login, &LoginContinue::default()).await?;
            match state.retry_after_s {
                Some(seconds) if client.now() < login.expires_at => wait = seconds,
                Some(_) => return Err(late()),
                None => return Ok(state),
            }
        }
    }

    async fn in_browser(&self, client: &Client) -> Result<LoginState, Failure> {
        let door = tokio::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let redirect = format!("http://127.0.0.1:{}/login", door.local_addr()?.port());
        let login = client.login(&self.ask(Some(redirect))).await?;
        let (came, mut comes) = mpsc::channel::<String>(4);
        let router = Router::new().route("/login", get(arrived)).with_state(came);
        let serving = tokio::spawn(async move { axum::serve(door, router).await });
        note(&format!("open   {}", login.url));
        let left = Duration::from_secs(login.expires_at.since(client.now()));
        let done = tokio::time::timeout(left, finished(client, &login, &mut comes)).await;
        serving.abort();
        done.unwrap_or_else(|_| Err(late()))
    }
}

/// Any page can knock at a door on loopback: what does not belong to this login is passed over, and the door stays open.
async fn finished(
    client: &Client,
    login: &LoginReply,
    comes: &mut mpsc::Receiver<String>,
) -> Result<LoginState, Failure> {
    let state = login.url.split_once("state=").map_or("", |(_, rest)| rest.split('&').next().unwrap_or_default());
    while let Some(query) = comes.recv().await {
        let brought = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.filter(|(known, _)| *known == name).map(|(_, value)| plain(value)).next()
        };
        if brought("state").as_deref() != Some(state) {
            continue;
        }
        if let Some(error) = brought("error") {
            let why = brought("error_description").unwrap_or_default();
            return Err(Failure::new(
                format!("the issuer says no: {error} {why}"),
                "begin again: comity login --browser",
            ));
        }
        let ask = LoginContinue { code: brought("code"), state: brought("state"), iss: brought("iss") };
        return Ok(client.login_go_on(&login.login, &ask).await?);
    }
    Err(late())
}

async fn arrived(State(came): State<mpsc::Sender<String>>, RawQuery(query): RawQuery) -> &'static str {
    let _ = came.try_send(query.unwrap_or_default());
    PAGE
}

fn late() -> Failure {
    Failure::new("nobody logged in within the time that the issuer gave", "begin again: comity login")
}

/// Undoes percent-encoding, as a query has it.
fn plain(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let digits = more.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = more;
            }
            _ => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_a_query_says_is_read_as_it_was_meant() {
        assert_eq!(super::plain("a%2Fb+c%3d%zz%"), "a/b c=%zz%");
    }
}

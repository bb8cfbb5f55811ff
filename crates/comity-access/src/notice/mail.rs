//! Notices by mail: plain text over SMTP, one mail for each address.
//!
//! A retry is the same mail: `Message-ID` is made of the notice's id, `Date` of its time. TLS is from the first byte or by a
//! STARTTLS without which nothing is said; without TLS a mail goes to this computer alone. One address for each mail, so that
//! a mailbox that refuses holds up nobody else's, and nobody reads who else was told.

use std::time::{Duration, SystemTime};

use comity_wire::Timestamp;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use lettre::message::header::{ContentType, HeaderName, HeaderValue, MIME_VERSION_1_0};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use zeroize::Zeroizing;

use super::schedule::Outcome;
use super::target::{Files, MailTarget, MailTls};
use super::webhook::believed;
use super::words::one_line;
use super::{Notice, Queued, Sender};

/// What a server may take for one answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(15);
/// The last second that a `Date` can say.
const DATE_MAX: u64 = 253_402_300_799;

/// Mails through one server.
pub struct Mail {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    password: Option<Zeroizing<String>>,
}

impl Mail {
    /// Takes the process's TLS provider, which `comity_http::tls::install` sets.
    pub(super) fn open(target: &MailTarget, files: Files<'_>) -> Result<Self, String> {
        let from = sender(&target.from)?;
        let host = target.server.trim_matches(['[', ']']).to_owned();
        let tls = match target.tls {
            MailTls::None => Tls::None,
            MailTls::Implicit => Tls::Wrapper(parameters(&host, target, files)?),
            MailTls::Starttls => Tls::Required(parameters(&host, target, files)?),
        };
        let hello = target.hello.clone().unwrap_or_else(|| from.email.domain().to_owned());
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
            .port(target.port())
            .tls(tls)
            .hello_name(ClientId::Domain(hello))
            .timeout(Some(ANSWER_TIME_MAX));
        let mut password = None;
        if let (Some(user), Some(file)) = (&target.user, &target.password_file) {
            let said = (files.secret)(file)?;
            builder = builder.credentials(Credentials::new(user.clone(), said.to_string()));
            password = Some(said);
        }
        Ok(Self { transport: builder.build(), from, password })
    }

    async fn mail(&self, queued: &Queued) -> Outcome {
        let address = queued.delivery.address.as_deref().unwrap_or_default();
        let Ok(to) = address.parse::<Address>() else {
            return Outcome::Refused { why: "there is no address that a mail could go to".into() };
        };
        let mail = match message(&self.from, to, &queued.delivery.notice) {
            Ok(mail) => mail,
            Err(error) => return Outcome::Refused { why: format!("no mail can be made of it: {error}") },
        };
        let Err(error) = self.transport.send(mail).await else { return Outcome::Delivered };
        let why = self.without_secrets(&error.to_string(), address);
        let code = error.status().map(|code| code.to_string()).unwrap_or_default();
        // 53x is about who we are (RFC 4954 §6): the operator can mend it, and the mail goes then.
        if error.is_permanent() && !code.starts_with("53") {
            return Outcome::Refused { why };
        }
        Outcome::Failed { why, wait_s: None }
    }

    /// A server may quote whom it does not know.
    fn without_secrets(&self, text: &str, address: &str) -> String {
        let mut text = text.replace(address, "…");
        if let Some(password) = &self.password {
            text = text.replace(password.as_str(), "…");
        }
        text
    }
}

impl Sender for Mail {
    fn send<'a>(&'a self, queued: &'a Queued, _: Timestamp) -> BoxFuture<'a, Outcome> {
        self.mail(queued).boxed()
    }
}

/// The mail that a notice is, to one address: the same however often it is made.
fn message(from: &Mailbox, to: Address, notice: &Notice) -> Result<Message, lettre::error::Error> {
    let domain = from.email.domain();
    let date = SystemTime::UNIX_EPOCH + Duration::from_secs(notice.at.seconds().min(DATE_MAX));
    let header =
        |name: &'static str, value: &str| HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned());
    Message::builder()
        .from(from.clone())
        .to(Mailbox::new(None, to))
        .subject(one_line(&notice.title))
        .date(date)
        .message_id(Some(format!("<{}@{domain}>", notice.id)))
        // What is said of one application, or case, stands together in a mailbox.
        .references(format!("<{}@{domain}>", notice.about))
        // RFC 3834: nobody's holiday answers it.
        .raw_header(header("Auto-Submitted", "auto-generated"))
        .header(MIME_VERSION_1_0)
        .header(ContentType::TEXT_PLAIN)
        .body(body(notice))
}

fn body(notice: &Notice) -> String {
    let mut text = format!("{}\n", notice.text);
    if let Some(reason) = &notice.reason {
        text.push_str("\nThe owner's words:\n\n");
        for line in reason.lines() {
            text.push_str("> ");
            text.push_str(line);
            text.push('\n');
        }
    }
    text.push_str("\n-- \nSent by a Comity node. What holds is what the command above shows.\n");
    text
}

/// Who a mail is from.
pub(super) fn sender(text: &str) -> Result<Mailbox, String> {
    text.parse().map_err(|_| "has a from that is no address: Name <access@lab.example>".into())
}

/// Whether a mail can go there.
pub(super) fn is_address(text: &str) -> bool {
    text.parse::<Address>().is_ok()
}

fn parameters(host: &str, target: &MailTarget, files: Files<'_>) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(host.to_owned());
    if let Some(file) = &target.ca_file {
        // A file without a certificate would be one that believes nobody.
        let (text, _) = believed(file, files)?;
        let certificate =
            Certificate::from_pem(text.as_bytes()).map_err(|error| format!("has a bad ca_file: {error}"))?;
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(certificate);
    }
    builder.build().map_err(|error| format!("has no TLS: {error}"))
}

//! Mail against a server that keeps what it is given.

use std::sync::atomic::Ordering;
use std::time::Duration;

use comity_access::notice::{Notice, Pace, limit, soon};
use comity_access::{Act, Kind, Role, State};

use crate::desk::{Desk, targets};
use crate::memory::End;
use crate::smtp::{Say, Server, Wire};
use crate::story::{NOW, Story, who};

const TO: &str = "[notice.roles]\noperator = [\"desk@lab.example\"]\n";

fn settings(server: &Server, more: &str) -> String {
    format!(
        "[[notice]]\nby = \"mail\"\nname = \"mail\"\nserver = \"127.0.0.1\"\nport = {}\n\
         from = \"The lab <access@lab.example>\"\n{more}",
        server.port
    )
}

/// To the operators' one address.
fn plain(server: &Server) -> Desk {
    Desk::open(targets(&settings(server, &format!("tls = \"none\"\n{TO}"))), &[])
}

fn rejected(reason: &str) -> Vec<Notice> {
    let mut story = Story::at(State::Submitted);
    story.now = story.now.plus(60);
    story.done(Act::Reject { reason: reason.into() }, &who(Role::Decider))
}

#[tokio::test]
async fn a_mail_is_the_notice_in_plain_text_and_nothing_else() {
    let server = Server::start(Wire::Plain, &[]).await;
    let more = "tls = \"none\"\n[notice.persons]\nsub-a = [\"ada@uni.example\"]\n";
    let desk = Desk::open(targets(&settings(&server, more)), &[]);
    let said = rejected("It names no measure.\nSay which.");
    desk.say(&said);
    assert_eq!(desk.desk.turn(NOW).await.unwrap().delivered, 1);
    let got = &server.got()[0];
    assert_eq!(
        (got.from.as_str(), got.to.as_slice()),
        ("access@lab.example", ["ada@uni.example".to_owned()].as_slice())
    );
    assert_eq!(got.hello, "lab.example");
    let headers = got.headers();
    let expected = [
        ("from", "\"The lab\" <access@lab.example>".to_owned()),
        ("to", "ada@uni.example".to_owned()),
        ("subject", said[0].title.clone()),
        ("date", "Fri, 15 Jan 2027 08:02:00 +0000".to_owned()),
        ("message-id", format!("<{}@lab.example>", said[0].id)),
        ("references", format!("<{}@lab.example>", said[0].about)),
        ("auto-submitted", "auto-generated".to_owned()),
        ("content-type", "text/plain; charset=utf-8".to_owned()),
        ("content-transfer-encoding", "quoted-printable".to_owned()),
        ("mime-version", "1.0".to_owned()),
    ];
    for (name, value) in &expected {
        assert_eq!(headers.get(*name), Some(value), "{name}");
    }
    assert_eq!(headers.len(), expected.len(), "{headers:?}");
    let words = "> It names no measure.\n> Say which.\n";
    let end = "-- \nSent by a Comity node. What holds is what the command above shows.\n";
    assert_eq!(got.text().trim_end(), format!("{}\n\nThe owner's words:\n\n{words}\n{end}", said[0].text).trim_end());
}

#[tokio::test]
async fn each_address_gets_a_mail_of_its_own_and_only_those_it_concerns() {
    let server = Server::start(Wire::Plain, &[]).await;
    let more = "tls = \"none\"\n\
                [notice.roles]\noperator = [\"one@lab.example\", \"two@lab.example\"]\nreviewer = [\"all@lab.example\"]\n\
                [notice.persons]\nrita = [\"rita@lab.example\", \"one@lab.example\"]\n";
    let desk = Desk::open(targets(&settings(&server, more)), &[]);
    let to = |said: &[Notice]| -> Vec<String> {
        let rows = said.iter().flat_map(|notice| desk.targets.deliveries(notice));
        rows.map(|row| row.address.unwrap()).collect()
    };
    let mut story = Story::at(State::Submitted);
    let named = story.does(Kind::RequestReview, Role::Operator);
    assert_eq!(to(&named), ["one@lab.example", "rita@lab.example"]);
    let stranger = story.done(Act::RequestReview { reviewers: vec!["zoe".into()] }, &who(Role::Operator));
    assert_eq!(to(&stranger), ["all@lab.example"], "who has no address is told as what they are");
    let both = story.does(Kind::Remark, Role::Applicant);
    assert_eq!(to(&both), ["all@lab.example", "one@lab.example", "rita@lab.example", "two@lab.example"], "each once");
    assert!(to(&story.does(Kind::Return, Role::Operator)).is_empty(), "nobody wrote the applicant's down");
    desk.say(&both);
    assert_eq!(desk.desk.turn(NOW).await.unwrap().delivered, 4);
    let got = server.got();
    assert!(got.iter().all(|got| got.to.len() == 1 && got.headers()["to"] == got.to[0]), "{got:?}");
    let ids: std::collections::BTreeSet<_> = got.iter().map(|got| got.headers()["message-id"].clone()).collect();
    assert_eq!(ids.len(), 1, "to all of them it is one message");
}

#[tokio::test]
async fn with_tls_nothing_is_said_before_it_and_a_password_goes_through_it() {
    for (wire, word) in [(Wire::Implicit, "implicit"), (Wire::Starttls, "starttls")] {
        let server = Server::start(wire, &[]).await;
        let more = format!(
            "tls = \"{word}\"\nca_file = \"ca\"\nuser = \"access\"\npassword_file = \"pw\"\nhello = \"node.lab.example\"\n{TO}"
        );
        let desk = Desk::open(targets(&settings(&server, &more)), &[("ca", &server.pem), ("pw", "canary-password")]);
        desk.submit();
        assert_eq!(desk.desk.turn(NOW).await.unwrap().delivered, 1, "{:?}", desk.outbox.only());
        let got = &server.got()[0];
        assert!(got.is_encrypted);
        assert_eq!(got.login, Some(("access".into(), "canary-password".into())));
        assert_eq!(got.hello, "node.lab.example");
        let clear = server.clear();
        assert!(["MAIL", "AUTH", "RCPT", "DATA"].iter().all(|verb| !clear.contains(verb)), "{clear}");
    }
}

#[tokio::test]
async fn who_offers_no_tls_or_cannot_prove_its_name_is_told_nothing() {
    let cases = [
        // Somebody on the way took STARTTLS out of what the server offers.
        (Wire::Plain, "starttls", "127.0.0.1", &[][..]),
        (Wire::Starttls, "starttls", "127.0.0.1", &[("STARTTLS", Say::This("454 not now"))][..]),
        (Wire::Starttls, "starttls", "mail.elsewhere.example", &[]),
        (Wire::Implicit, "implicit", "mail.elsewhere.example", &[]),
        (Wire::Plain, "implicit", "127.0.0.1", &[]),
    ];
    for (wire, word, name, script) in cases {
        let server = Server::of(wire, script, name).await;
        let more = format!("tls = \"{word}\"\nca_file = \"ca\"\nuser = \"access\"\npassword_file = \"pw\"\n{TO}");
        let files = [("ca", server.pem.as_str()), ("pw", "canary-password")];
        let desk = Desk::open(targets(&settings(&server, &more)), &files)
            .paced(Pace { attempt: Duration::from_secs(2), ..Pace::default() });
        desk.submit();
        assert_eq!(desk.desk.turn(NOW).await.unwrap().delivered, 0);
        let kept = desk.outbox.only();
        assert!(kept.end.is_none() && kept.next > NOW, "{wire:?} {word} {name}: {kept:?}");
        assert!(server.got().is_empty());
        let clear = server.clear();
        assert!(["MAIL", "AUTH", "RCPT", "lab.example>"].iter().all(|word| !clear.contains(word)), "{clear}");
    }
    // Another authority's certificate for the right name.
    let server = Server::start(Wire::Implicit, &[]).await;
    let other = Server::start(Wire::Implicit, &[]).await;
    let more = format!("tls = \"implicit\"\nca_file = \"ca\"\n{TO}");
    let desk = Desk::open(targets(&settings(&server, &more)), &[("ca", &other.pem)]);
    desk.submit();
    assert_eq!(desk.desk.turn(NOW).await.unwrap().delivered, 0);
    assert!(server.got().is_empty());
}

#[tokio::test]
async fn each_refusal_has_its_consequence() {
    // (command, what is said, whether it is given up)
    let cases = [
        ("RCPT", "451 4.7.1 greylisted, come again", false),
        ("RCPT", "452 4.2.2 the mailbox desk@lab.example is full", false),
        ("RCPT", "550 5.1.1 <desk@lab.example>: no such mailbox", true),
        ("MAIL", "421 4.3.2 going down", false),
        ("MAIL", "553 5.1.8 not from you", true),
        ("MAIL", "530 5.7.0 log in first", false),
        (".", "554 5.7.1 looks like spam", true),
        (".", "451 4.3.0 try again", false),
        ("EHLO", "what?", false),
    ];
    for (command, said, is_given_up) in cases {
        let server = Server::start(Wire::Plain, &[(command, Say::This(said))]).await;
        let desk = plain(&server);
        desk.submit();
        assert_eq!(desk.desk.turn(NOW).await.unwrap().delivered, 0, "{said}");
        let kept = desk.outbox.only();
        assert!(server.got().is_empty());
        let why = match (&kept.end, is_given_up) {
            (Some(End::GaveUp(why)), true) => why.clone(),
            (None, false) => kept.why.clone(),
            other => panic!("{said}: {other:?}"),
        };
        assert!(!why.contains("desk@lab"), "an address stands in no log: {why}");
        assert!(command == "EHLO" || why.contains(&said[..3]), "{why}");
        if !is_given_up {
            assert_eq!(desk.desk.turn(kept.next).await.unwrap().delivered, 1, "{said}: later it goes");
            assert_eq!(server.got().len(), 1);
        }
    }
    let server = Server::start(Wire::Implicit, &[("AUTH", Say::This("535 5.7.8 canary-password is wrong"))]).await;
    let more = format!("ca_file = \"ca\"\nuser = \"access\"\npassword_file = \"pw\"\n{TO}");
    let desk = Desk::open(targets(&settings(&server, &more)), &[("ca", &server.pem), ("pw", "canary-password")]);
    desk.submit();
    desk.desk.turn(NOW).await.unwrap();
    let kept = desk.outbox.only();
    assert!(kept.end.is_none() && kept.why.contains("535"), "a password can be mended: {kept:?}");
    let shown = format!("{kept:?} {:?} {:?}", desk.desk.standing(), desk.targets);
    assert!(!shown.contains("canary"), "{shown}");
}

#[tokio::test]
async fn a_mail_that_may_have_arrived_comes_again_as_the_same_mail() {
    // The server has it, and the line breaks before it says so; then the process dies before it says that it is done.
    let server = Server::start(Wire::Plain, &[(".", Say::Close)]).await;
    let desk = plain(&server);
    desk.submit();
    assert_eq!(desk.desk.turn(NOW).await.unwrap().delivered, 0);
    let next = desk.outbox.only().next;
    desk.outbox.dies.store(true, Ordering::SeqCst);
    assert!(desk.desk.turn(next).await.is_err());
    desk.outbox.dies.store(false, Ordering::SeqCst);
    assert_eq!(desk.desk.turn(next.plus(limit::TAKEN_S)).await.unwrap().delivered, 1);
    let got = server.got();
    assert_eq!(got.len(), 3);
    assert!(got.iter().all(|one| one.bytes == got[0].bytes), "byte for byte, so a mailbox shows it once");
}

#[tokio::test]
async fn a_server_that_is_not_there_or_says_nothing_is_tried_again() {
    let server = Server::start(Wire::Plain, &[("EHLO", Say::Nothing)]).await;
    let desk = plain(&server).paced(Pace { attempt: Duration::from_millis(300), ..Pace::default() });
    desk.submit();
    desk.desk.turn(NOW).await.unwrap();
    let kept = desk.outbox.only();
    assert_eq!((kept.end.clone(), kept.why.as_str()), (None, "no answer within 300ms"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let text = settings(&server, &format!("tls = \"none\"\n{TO}")).replace(&server.port.to_string(), &port.to_string());
    let desk = Desk::open(targets(&text), &[]);
    desk.submit();
    desk.desk.turn(NOW).await.unwrap();
    let kept = desk.outbox.only();
    assert!(kept.end.is_none() && kept.next > NOW && !kept.why.is_empty(), "{kept:?}");
}

#[tokio::test]
async fn no_text_becomes_a_header_a_command_or_another_mail() {
    let server = Server::start(Wire::Plain, &[]).await;
    let more = "tls = \"none\"\n[notice.persons]\nsub-a = [\"ada@uni.example\"]\n";
    let desk = Desk::open(targets(&settings(&server, more)), &[]);
    let reason = "no\r\n.\r\nMAIL FROM:<eve@evil.example>\r\nRCPT TO:<eve@evil.example>\r\n.\n.two\n..";
    let mut notice = rejected(reason).remove(0);
    // Not as ours are made: as somebody who could write a row would have it.
    notice.title = "Hi\r\nBcc: eve@evil.example\r\n\r\nbody\u{0}\u{202e}".into();
    desk.say(&[notice]);
    assert_eq!(desk.desk.turn(NOW).await.unwrap().delivered, 1);
    let got = server.got();
    assert_eq!((got.len(), got[0].to.as_slice()), (1, ["ada@uni.example".to_owned()].as_slice()));
    let headers = got[0].headers();
    assert!(!headers.contains_key("bcc"), "{headers:?}");
    assert_eq!(headers["subject"], "Hi Bcc: eve@evil.example  body");
    let text = got[0].text();
    assert!(text.contains("> no\n> .\n> MAIL FROM:<eve@evil.example>\n"), "{text}");
    assert!(text.contains("> .two\n> ..\n"), "{text}");
    // A line of the text itself may begin with a full stop.
    let mut notice = rejected("no").remove(0);
    notice.text = ".\n.one\n..".into();
    notice.id.0[15] ^= 1;
    desk.say(&[notice]);
    assert_eq!(desk.desk.turn(NOW).await.unwrap().delivered, 1);
    assert!(server.got()[1].text().starts_with(".\n.one\n..\n"), "{}", server.got()[1].text());
}

#[tokio::test]
async fn any_writing_and_any_length_arrives_as_it_was() {
    let server = Server::start(Wire::Plain, &[]).await;
    let more = "tls = \"none\"\n[notice.persons]\nsub-a = [\"ada@uni.example\"]\n";
    let desk = Desk::open(targets(&settings(&server, more)), &[]);
    let reasons =
        [format!("Maß und Ziel: {}", "ä".repeat(1_500)), "long ".repeat(700), "研究の目的".into(), "=3D =\n=".into()];
    for reason in &reasons {
        let mut story = Story::at(State::Submitted);
        story.now = story.now.plus(reason.len() as u64);
        desk.say(&story.done(Act::Reject { reason: reason.clone() }, &who(Role::Decider)));
    }
    assert_eq!(desk.desk.turn(NOW).await.unwrap().delivered, reasons.len());
    for reason in &reasons {
        let quoted: String = reason.lines().map(|line| format!("> {line}\n")).collect();
        assert!(server.got().iter().any(|got| got.text().contains(&quoted)), "{reason}");
    }
}

#[test]
fn a_server_is_given_the_kinds_that_it_was_written_for() {
    let text = "[[notice]]\nby = \"mail\"\nname = \"mail\"\nserver = \"mail.lab.example\"\nfrom = \"access@lab.example\"\n\
                kinds = [\"appeal\", \"due-soon\"]\n[notice.roles]\noperator = [\"desk@lab.example\"]\n";
    let targets = targets(text);
    let rows = |said: &[Notice]| said.iter().map(|notice| targets.deliveries(notice).len()).sum::<usize>();
    assert_eq!(rows(&Story::at(State::Draft).does(Kind::Submit, Role::Applicant)), 0);
    assert_eq!(rows(&Story::at(State::Rejected).does(Kind::Appeal, Role::Applicant)), 1);
    let story = Story::at(State::Submitted);
    let due = story.app.due().unwrap().at;
    assert_eq!(rows(&[soon(&story.app, due.minus(60)).unwrap()]), 1);
}

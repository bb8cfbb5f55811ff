//! Webhooks against a receiver that verifies them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use comity_access::notice::{Notice, Pace, Targets, limit, signature};
use comity_wire::Timestamp;

use crate::desk::{Desk, targets};
use crate::memory::End;
use crate::receiver::{Answer, Receiver, secret};
use crate::story::{DAY, NOW};

fn settings(origin: &str, more: &str) -> Targets {
    targets(&format!(
        "[[notice]]\nby = \"webhook\"\nname = \"desk\"\nurl = \"{origin}/hook?key=canary-url\"\nsecret_file = \"secret\"\n{more}"
    ))
}

fn of(receiver: &Receiver) -> Desk {
    Desk::open(settings(&receiver.origin, ""), &[("secret", &secret(b'a').1)])
}

#[tokio::test]
async fn a_notice_arrives_signed_and_whole() {
    let receiver = Receiver::start(&[]).await;
    let desk = of(&receiver);
    desk.submit();
    assert_eq!(desk.desk.turn(NOW.plus(7)).await.unwrap().delivered, 1);
    assert_eq!(desk.outbox.only().end, Some(End::Done));
    let got = &receiver.got()[0];
    let notice = desk.outbox.only().row.delivery.notice;
    assert_eq!((got.notice(), got.id.clone()), (notice.clone(), notice.id.to_string()));
    assert_eq!(
        (got.at, got.path.as_str()),
        (NOW.seconds() + 7, "/hook?key=canary-url"),
        "signed at the hour of the attempt"
    );
    assert!(got.is_signed_by(&secret(b'a').0));
    assert!(!got.is_signed_by(&secret(b'b').0));
    let mut altered = got.clone();
    altered.body[10] ^= 1;
    assert!(!altered.is_signed_by(&secret(b'a').0));
    let mut older = got.clone();
    older.at -= 1;
    assert!(!older.is_signed_by(&secret(b'a').0));
}

#[tokio::test]
async fn while_one_secret_takes_the_place_of_another_both_verify() {
    let receiver = Receiver::start(&[]).await;
    let both = format!("{}\n{}\n", secret(b'a').1, secret(b'b').1);
    let desk = Desk::open(settings(&receiver.origin, ""), &[("secret", &both)]);
    desk.submit();
    desk.desk.turn(NOW).await.unwrap();
    let got = &receiver.got()[0];
    assert_eq!(got.signatures.len(), 2);
    assert!(
        got.is_signed_by(&secret(b'a').0) && got.is_signed_by(&secret(b'b').0) && !got.is_signed_by(&secret(b'c').0)
    );
}

#[tokio::test]
async fn each_answer_has_its_consequence() {
    // (answer, done, given up, off, seconds to the next attempt)
    let cases = [
        (Answer::Status(200), true, false, false, 0),
        (Answer::Status(202), true, false, false, 0),
        (Answer::Status(400), false, false, false, 300),
        (Answer::Status(401), false, false, false, 300),
        (Answer::Status(404), false, false, false, 300),
        (Answer::Status(500), false, false, false, 300),
        (Answer::With(503, "retry-after", "7200".into()), false, false, false, 7_200),
        (Answer::With(429, "retry-after", "Fri, 31 Dec 1999 23:59:59 GMT".into()), false, false, false, 300),
        (Answer::Status(410), false, true, true, 0),
    ];
    for (answer, done, given_up, off, wait) in cases {
        let receiver = Receiver::start(std::slice::from_ref(&answer)).await;
        let desk = of(&receiver);
        desk.submit();
        desk.desk.turn(NOW).await.unwrap();
        let kept = desk.outbox.only();
        assert_eq!(kept.end == Some(End::Done), done, "{answer:?}");
        assert_eq!(matches!(kept.end, Some(End::GaveUp(_))), given_up, "{answer:?}");
        assert_eq!(desk.desk.standing()[0].off.is_some(), off, "{answer:?}");
        if !done && !given_up {
            let waited = kept.next.since(NOW);
            assert!((wait * 3 / 4..=wait * 5 / 4).contains(&waited), "{answer:?}: {waited} s");
            assert!(kept.why.starts_with("the receiver answered "), "{}", kept.why);
            // The second attempt is the same notice, signed anew.
            desk.desk.turn(kept.next).await.unwrap();
            let got = receiver.got();
            assert_eq!((got[0].id.clone(), got[0].body.clone()), (got[1].id.clone(), got[1].body.clone()));
            assert!(got[1].at > got[0].at && got[1].is_signed_by(&secret(b'a').0));
            assert_eq!(desk.outbox.only().end, Some(End::Done));
        }
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Receiver::start(&[]).await;
    for status in [301, 302, 307, 308] {
        let receiver =
            Receiver::start(&[Answer::With(status, "location", format!("{}/other", elsewhere.origin))]).await;
        let desk = of(&receiver);
        desk.submit();
        desk.desk.turn(NOW).await.unwrap();
        assert_eq!(desk.outbox.only().why, format!("the receiver answered {status}"));
    }
    assert!(elsewhere.got().is_empty());
}

#[tokio::test]
async fn who_was_killed_before_saying_done_delivers_the_same_id_again() {
    let receiver = Receiver::start(&[]).await;
    let desk = of(&receiver);
    desk.submit();
    desk.outbox.dies.store(true, Ordering::SeqCst);
    assert!(desk.desk.turn(NOW).await.is_err());
    desk.outbox.dies.store(false, Ordering::SeqCst);
    desk.desk.turn(NOW.plus(limit::TAKEN_S)).await.unwrap();
    let got = receiver.got();
    assert_eq!((got.len(), &got[0].id, &got[0].body), (2, &got[1].id, &got[1].body));
}

#[tokio::test]
async fn nobody_there_is_tried_again_and_nothing_shows_the_url() {
    let receiver = Receiver::start(&[]).await;
    let desk = of(&receiver);
    drop(receiver);
    desk.submit();
    // The listener is closed when its task has ended.
    tokio::task::yield_now().await;
    desk.desk.turn(NOW).await.unwrap();
    let kept = desk.outbox.only();
    assert!(kept.end.is_none() && kept.next > NOW && !kept.why.is_empty());
    let shown = format!("{kept:?} {:?} {:?}", desk.desk.standing(), desk.targets);
    assert!(!shown.contains("canary-url"), "{shown}");
}

#[tokio::test]
async fn a_receiver_that_says_nothing_is_left_after_its_time() {
    let receiver = Receiver::start(&[Answer::Silence]).await;
    let mut desk = of(&receiver);
    desk = desk.paced(Pace { attempt: Duration::from_millis(300), ..Pace::default() });
    desk.submit();
    assert_eq!(desk.desk.turn(NOW).await.unwrap().delivered, 0);
    let kept = desk.outbox.only();
    assert!(kept.end.is_none() && kept.next > NOW, "{kept:?}");
    assert_eq!(kept.why, "no answer within 300ms");
    desk = desk.paced(Pace::default());
    desk.desk.turn(NOW.plus(DAY)).await.unwrap();
    assert_eq!(desk.outbox.only().end, Some(End::Done));
    assert_eq!(receiver.got().len(), 2);
}

#[tokio::test]
async fn https_is_believed_by_the_certificates_that_were_named_and_no_others() {
    let (receiver, pem) = Receiver::start_tls().await;
    let named = settings(&receiver.origin, "ca_file = \"ca\"");
    let own = secret(b'a').1;
    let desk = Desk::open(named.clone(), &[("secret", &own), ("ca", &pem)]);
    desk.submit();
    assert_eq!(desk.desk.turn(NOW).await.unwrap().delivered, 1);
    assert!(receiver.got()[0].is_signed_by(&secret(b'a').0));
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap().cert.pem();
    let desk = Desk::open(named, &[("secret", &own), ("ca", &other)]);
    desk.submit();
    assert_eq!(desk.desk.turn(NOW).await.unwrap().delivered, 0);
    let why = desk.outbox.only().why;
    assert!(why.contains("certificate"), "{why}");
    assert_eq!(receiver.got().len(), 1, "nothing was said to who could not prove its name");
}

#[tokio::test]
async fn the_worked_example_of_the_spec_is_what_we_send() {
    let chapter = include_str!("../../../../spec/12-notices.md");
    let worked = chapter.split("```http Example\n").nth(1).unwrap().split("\n```").next().unwrap();
    let (head, body) = worked.split_once("\n\n").unwrap();
    let header = |name: &str| {
        let line = head.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}"));
        line.split_once(": ").unwrap().1.to_owned()
    };
    let secret = chapter.split("With the secret `whsec_").nth(1).unwrap().split('`').next().unwrap();
    let secret = data_encoding::BASE64.decode(secret.as_bytes()).unwrap();
    let at = Timestamp(header("webhook-timestamp").parse().unwrap());
    let signature = signature(&secret, &header("webhook-id"), at, body.as_bytes());
    assert_eq!(header("webhook-signature"), signature);
    let notice = Notice::read(body.as_bytes()).unwrap();
    assert_eq!(notice.id.to_string(), header("webhook-id"));
    assert_eq!(notice.to_json(), body.as_bytes(), "byte for byte");
}

//! `[[notice]]` as an owner writes it.

use std::path::Path;

use comity_access::notice::Targets;
use comity_access::{Kind, Role, State};
use zeroize::Zeroizing;

use crate::receiver::secret;
use crate::story::Story;

#[derive(Debug, serde::Deserialize)]
struct Settings {
    notice: Targets,
}

fn read(text: &str) -> Result<Targets, String> {
    let settings = toml::from_str::<Settings>(text).map_err(|error| error.message().to_owned())?;
    match settings.notice.fault() {
        None => Ok(settings.notice),
        Some(fault) => Err(fault.to_string()),
    }
}

const WHOLE: &str =
    "[[notice]]\nby = \"webhook\"\nname = \"desk\"\nurl = \"https://desk.example/canary\"\nsecret_file = \"s\"\n";

#[test]
fn what_cannot_be_sent_to_is_refused_with_a_sentence() {
    assert!(read(WHOLE).is_ok());
    assert!(read(&WHOLE.replace("https://desk.example", "http://127.0.0.1:8080")).is_ok());
    assert!(read(&WHOLE.replace("https://desk.example", "http://[::1]:8080")).is_ok());
    assert!(read(&WHOLE.replace("https://desk.example", "https://10.1.2.3")).is_ok(), "the operator wrote it");
    for (from, to, what) in [
        ("https://desk", "http://desk", "not https"),
        ("https://desk.example", "http://127.0.0.1.evil.example", "not https"),
        ("https://desk", "ftp://desk", "not https"),
        ("https://desk.example/canary", "desk", "a url that is none"),
        ("https://desk", "https://u:canary@desk", "a user"),
        ("name = \"desk\"", "name = \"The desk\"", "no name"),
        ("name = \"desk\"", "name = \"\"", "no name"),
        ("secret_file = \"s\"", "secret = \"canary\"", "unknown field"),
        ("secret_file = \"s\"", "secret_file = \"s\"\nroles = []", "empty list of roles"),
        ("secret_file = \"s\"", "secret_file = \"s\"\nroles = [\"operators\"]", "unknown variant"),
        ("secret_file = \"s\"", "secret_file = \"s\"\nkinds = [\"submitted\"]", "a kind of notice is"),
        ("by = \"webhook\"", "by = \"pigeon\"", "unknown variant"),
    ] {
        assert!(WHOLE.contains(from));
        let failure = read(&WHOLE.replace(from, to)).expect_err(to);
        assert!(failure.contains(what), "{to}: {failure}");
        assert!(!failure.contains("canary"), "{to}: {failure}");
    }
    assert!(read(&WHOLE.repeat(2)).unwrap_err().contains("stands twice"));
    let many: String = (0..17).map(|n| WHOLE.replace("\"desk\"", &format!("\"desk{n}\""))).collect();
    assert!(read(&many).unwrap_err().contains("the 16 there may be"));
}

#[test]
fn a_secret_is_lines_of_a_known_form() {
    comity_http::tls::install();
    let targets = read(WHOLE).unwrap();
    let opens = |text: &str| {
        targets.open(&|_: &Path| Ok(Zeroizing::new(text.to_owned()))).map(|_| ()).map_err(|bad| bad.to_string())
    };
    let good = secret(b'a').1;
    assert_eq!(opens(&good), Ok(()));
    assert_eq!(opens(&format!("{good}\n{good}\n")), Ok(()));
    let five = format!("{good}\n").repeat(5);
    let short = format!("whsec_{}", data_encoding::BASE64.encode(b"canary-short"));
    for wrong in ["", "canary", "whsec_canary!", &good[6..], &short, &five] {
        let failure = opens(wrong).expect_err(wrong);
        assert!(failure.contains("\"desk\"") && failure.contains("whsec_"), "{failure}");
        assert!(!failure.contains("canary"), "{failure}");
    }
    let unreadable = targets.open(&|_: &Path| Err("cannot be read".into())).map(|_| ());
    assert!(unreadable.unwrap_err().to_string().contains("cannot be read"));
}

#[test]
fn a_target_gets_the_kinds_and_roles_that_it_was_written_for() {
    // (settings, what happens, rows)
    let cases = [
        ("", Kind::Submit, 1),
        ("", Kind::Reject, 1),
        ("roles = [\"applicant\"]", Kind::Submit, 0),
        ("roles = [\"applicant\"]", Kind::Reject, 1),
        ("roles = [\"applicant\", \"operator\"]", Kind::Reject, 2),
        ("roles = [\"reviewer\"]", Kind::Reject, 0),
        ("kinds = [\"submit\", \"due-soon\"]", Kind::Submit, 1),
        ("kinds = [\"reject\"]", Kind::Submit, 0),
    ];
    for (more, kind, rows) in cases {
        let targets = read(&format!("{WHOLE}{more}")).unwrap();
        let said = match kind {
            Kind::Submit => Story::at(State::Draft).does(kind, Role::Applicant),
            _ => Story::at(State::Submitted).does(kind, Role::Decider),
        };
        let deliveries: Vec<_> = said.iter().flat_map(|notice| targets.deliveries(notice)).collect();
        assert_eq!(deliveries.len(), rows, "{more} {kind}");
        let again: Vec<_> = said.iter().flat_map(|notice| targets.deliveries(notice)).collect();
        assert_eq!(deliveries, again, "the same rows under the same ids");
    }
    let two = format!("{WHOLE}{}", WHOLE.replace("\"desk\"", "\"other\""));
    let said = Story::at(State::Draft).does(Kind::Submit, Role::Applicant);
    let deliveries = read(&two).unwrap().deliveries(&said[0]);
    assert_ne!(deliveries[0].id, deliveries[1].id);
    assert_eq!(deliveries[0].notice.id, deliveries[1].notice.id);
}

const MAIL: &str = "[[notice]]\nby = \"mail\"\nname = \"mail\"\nserver = \"mail.lab.example\"\nfrom = \"access@lab.example\"\n\
                    [notice.roles]\noperator = [\"desk@lab.example\"]\n";

#[test]
fn a_mail_server_that_cannot_be_used_is_refused_with_a_sentence() {
    assert!(read(MAIL).is_ok());
    let with = |line: &str| MAIL.replace("[notice.roles]", &format!("{line}\n[notice.roles]"));
    for good in [
        "tls = \"starttls\"",
        "user = \"access\"\npassword_file = \"pw\"",
        "port = 2525\nhello = \"node.lab.example\"\nkinds = [\"due-soon\"]",
    ] {
        assert!(read(&with(good)).is_ok(), "{good}");
    }
    let here =
        MAIL.replace("mail.lab.example", "localhost").replace("[notice.roles]", "tls = \"none\"\n[notice.roles]");
    assert!(read(&here).is_ok());
    for (text, what) in [
        (with("tls = \"none\""), "to this computer alone"),
        (with("tls = \"opportunistic\""), "unknown variant"),
        (with("user = \"access\""), "without a password_file"),
        (with("password_file = \"pw\""), "without a password_file"),
        (with("password = \"canary\""), "unknown field"),
        (with("port = 0"), "port 0"),
        (with("hello = \"a\\r\\nMAIL\""), "no name"),
        (MAIL.replace("mail.lab.example", "mail lab"), "no name"),
        (MAIL.replace("\"access@lab.example\"", "\"access\""), "a from that is no address"),
        (
            MAIL.replace("\"access@lab.example\"", "\"a@lab.example\\r\\nBcc: eve@evil.example\""),
            "a from that is no address",
        ),
        (MAIL.replace("desk@lab.example", "desk"), "an address that is none"),
        (
            MAIL.replace("desk@lab.example", "desk@lab.example>\\r\\nRCPT TO:<eve@evil.example"),
            "an address that is none",
        ),
        (MAIL.replace("desk@lab.example", "Desk <desk@lab.example>"), "an address that is none"),
        (MAIL.replace("\"desk@lab.example\"", ""), "no addresses"),
        (MAIL.replace("operator", "operators"), "unknown variant"),
        (MAIL.replace("\"desk@lab.example\"", &"\"desk@lab.example\",".repeat(65)), "more addresses than the 64"),
    ] {
        let failure = read(&text).expect_err(what);
        assert!(failure.contains(what), "{text}: {failure}");
        assert!(!failure.contains("canary"), "{failure}");
    }
}

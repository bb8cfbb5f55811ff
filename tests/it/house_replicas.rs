//! A house of two replicas on one PostgreSQL, each restarted in turn, by SIGTERM and by kill −9: no call fails that its client's own
//! retry does not cure, and the federation sees one house.

mod postgres {
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use comity_http::dial::{CallError, Client as Door};
    use comity_http::{Endpoint, TrustedKeys};
    use comity_ledger::db::query;
    use comity_node::shell;
    use comity_sdk::{Client, Query};
    use comity_tests::federation::{LOOPBACK, PER_REQUEST, REQUEST_UCR, books_in_postgres, chain};
    use comity_tests::{Federation, Owner, Scripted, eventually, process};
    use comity_token::directory::Directory as _;
    use comity_wire::api::node::HeadsReply;
    use comity_wire::object::{DoorKind, Head};
    use comity_wire::{Amount, ModelId, Signed};
    use http::Method;
    use serde_json::Value;

    /// Rounds of drawing, asking and ending that have to come to their end before the next thing happens to the house.
    const ROUNDS: u32 = 4;

    /// The last lines of a log, for whoever looks why something did not come about.
    fn newest(log: &Path) -> String {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("{}:\n{}", log.display(), lines[lines.len().saturating_sub(12)..].join("\n"))
    }

    async fn json(arguments: &[&str]) -> Value {
        serde_json::from_str(&process::expect(arguments).await).expect("JSON")
    }

    /// Draws a token, asks with it, ends it: everything that a wallet wants of a house.
    async fn round(client: &Client, model: &ModelId) -> Result<(), String> {
        let told = |what: &'static str| move |error: comity_sdk::Error| format!("{what}: {}", chain(&error));
        let token = client.buy(model, Amount::from_ucr(2 * REQUEST_UCR), 0).await.map_err(told("buying"))?;
        let query = Query::chat(model.clone(), &[("user", "Where?")], Some(8), false);
        client.ask(&query).await.map_err(told("asking"))?;
        client.project().await.map_err(told("looking"))?;
        client.finish(token).await.map_err(told("ending"))?;
        Ok(())
    }

    /// Four others are there, as far as the books know: this one takes no place in the feed, says so, and serves all the same.
    async fn one_that_publishes_nothing_is_not_ready(federation: &mut Federation, books: &comity_ledger::Database) {
        let trusted = TrustedKeys::Exactly(vec![*federation.transport_key("house-b").as_bytes()]);
        let ill = async |federation: &Federation| {
            let addresses = vec![federation.address("house-b")];
            let door = Door::new(Endpoint { addresses, trusted: trusted.clone() }).expect("an address");
            let parts = match door.call::<Value>(Method::GET, "/readyz", None::<&()>).await {
                Ok(ready) => ready["parts"].clone(),
                Err(CallError::Remote(refused)) => refused.fields["parts"].clone(),
                Err(error) => panic!("{}", chain(&error)),
            };
            let parts = parts.as_object().expect("parts").clone().into_iter();
            parts.filter(|(_, is_well)| *is_well == Value::Bool(false)).map(|(part, _)| part).collect::<Vec<_>>()
        };
        assert_eq!(ill(federation).await, [""; 0]);
        federation.service("house-b").end().await;
        let mut conn = books.connect().await.expect("the books");
        for at in 1..=4_u8 {
            let key = comity_wire::SecretKey::from_seed([at; 32]).public();
            let later = i64::try_from(shell::now().seconds() + 1_000).expect("a time");
            query("INSERT INTO replica (key, doors, started_at, seen_at) VALUES (?, '[]', ?, ?)")
                .bind(key.as_bytes().to_vec())
                .bind(later)
                .bind(later)
                .execute(&mut conn.db())
                .await
                .expect("it is written");
        }
        federation.service("house-b").restart().await;
        assert_eq!(ill(federation).await, ["publishing"]);
        let said = federation.service("house-b").log();
        assert!(said.contains("nothing is published from here yet") && said.contains("at most 4"), "{said}");
        query("DELETE FROM replica").execute(&mut conn.db()).await.expect("it is written");
        eventually("it publishes", async || {
            let ill = ill(federation).await;
            if ill.is_empty() { Ok(()) } else { Err(format!("{ill:?}")) }
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn two_replicas_of_a_house_are_restarted_in_turn_and_nobody_notices() {
        let database = comity_scratch::Database::create().await;
        let url = database.url();
        let upstream = Scripted::start().await;
        let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
        let mut federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, |name, home| match name {
            "lab" => std::fs::write(home.join("node.toml"), "[gateway]\nclaim_every_s = 1\n").expect("node.toml"),
            "house" => books_in_postgres(home, &url),
            _ => {}
        })
        .await;
        let model = lab.model();
        federation
            .house_replica("house-b", |home| {
                comity_node::home::write_secret(&home.join("keys/books.url"), url.as_bytes()).expect("a secret");
            })
            .await;
        let node = federation.card("house").node;
        let scout = federation.client("scout");
        let logs = ["house.log", "house-b.log"].map(|log| federation.path().join(log));
        let doors = async |count: usize| {
            eventually("doors of the house", async || {
                scout.refresh().await.map_err(|error| chain(&error))?;
                let announced = scout.directory().announcement(node);
                let doors = announced.iter().flat_map(|announced| announced.doors.iter());
                match doors.filter(|door| door.kind == DoorKind::Https).count() {
                    found if found == count => Ok(()),
                    found => Err(format!("{found} of {count}; {}", logs.each_ref().map(|log| newest(log)).join("\n"))),
                }
            })
            .await;
        };
        doors(2).await;

        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let workers: Vec<_> = ["one", "two"]
            .into_iter()
            .map(|name| {
                let (client, model) = (federation.client(name), model.clone());
                let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
                tokio::spawn(async move {
                    let mut failed = Vec::new();
                    while !stop.load(Ordering::SeqCst) {
                        match round(&client, &model).await {
                            Ok(()) => done.fetch_add(1, Ordering::SeqCst),
                            Err(why) => {
                                failed.push(why);
                                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                                0
                            }
                        };
                    }
                    failed
                })
            })
            .collect();
        let work_on = async || {
            let reach = done.load(Ordering::SeqCst) + ROUNDS;
            eventually("rounds", async || match done.load(Ordering::SeqCst) {
                so_far if so_far >= reach => Ok(()),
                so_far => Err(format!("{so_far} of {reach}")),
            })
            .await;
        };
        work_on().await;
        for replica in ["house", "house-b"] {
            // For a new program, or the machine's: it says that it goes.
            federation.service(replica).end().await;
            doors(1).await;
            work_on().await;
            federation.service(replica).restart().await;
            doors(2).await;
            work_on().await;
            // And without a word.
            federation.service(replica).kill().await;
            work_on().await;
            federation.service(replica).restart().await;
            work_on().await;
        }
        stop.store(true, Ordering::SeqCst);
        let mut failed = Vec::new();
        for worker in workers {
            failed.extend(worker.await.expect("the work ends"));
        }
        assert!(failed.is_empty(), "{} calls failed: {failed:#?}", failed.len());

        // Everything was settled, through whichever replica, and the books are one.
        let rounds = done.load(Ordering::SeqCst);
        let account = eventually("every charge is settled", async || {
            let account = federation.account().await;
            let charged = Amount::from_ucr(rounds * REQUEST_UCR);
            if account.settled == charged && account.in_escrow.is_zero() {
                Ok(account)
            } else {
                Err(format!("{account:?}"))
            }
        })
        .await;
        assert_eq!(federation.books_add_up().await.settled, account.settled);
        for replica in ["house", "house-b"] {
            let home = federation.path().join(replica).display().to_string();
            let audit = json(&["ledger", "audit", "--home", &home, "--json"]).await;
            assert_eq!(audit["holds"], true, "{audit}");
            // The log is one line at either door.
            let log = json(&["clearing", "log", "show", "--home", &home]).await;
            assert!(log["stopped"].is_null() && log["ended"].as_array().is_some_and(Vec::is_empty), "{log}");
            let address = federation.address(replica);
            let vkey = log["vkey"].as_str().expect("the log's key").to_owned();
            let key = federation.transport_key(replica).to_string();
            process::expect(&["audit", "--door", &address, "--door-key", &key, "--key", &vkey, "--json"]).await;
            // (A test's PostgreSQL does without fsync, which a doctor must not like.)
            let doctor = process::run(&["clearing", "doctor", "--home", &home]).await.stdout;
            let fails = doctor.lines().filter(|line| line.starts_with("FAIL") && !line.contains("durability")).count();
            assert!(fails == 0 && doctor.contains("ok    replicas: 2 are there"), "{doctor}");
            let said = federation.service(replica).log();
            assert!(!said.contains("frozen") && !said.contains("set back"), "{said}");
        }
        // And so is the feed: what the hub has is what stands last in the books.
        let books = comity_ledger::Database::postgres(&url).expect("an address");
        let replicas = comity_clearing::ops::replicas(&books, shell::now()).await.expect("the books");
        let feed = replicas.feed.expect("a feed");
        let house = federation.card("house").organisation;
        eventually("the newest head at the hub", async || {
            let asked = federation.door("hub").get::<HeadsReply>("/comity/v1/heads").await;
            let heads = asked.map_err(|error| chain(&error))?.heads;
            let heads = heads.iter().filter_map(|frame| Signed::<Head>::decode(&frame.head).ok());
            let found = heads.map(|head| head.unverified().clone()).find(|head| head.org == house);
            let found = found.map(|head| head.number());
            if found == Some(feed) { Ok(()) } else { Err(format!("{found:?}, not {feed:?}")) }
        })
        .await;
        one_that_publishes_nothing_is_not_ready(&mut federation, &books).await;
        federation.end().await;
    }
}

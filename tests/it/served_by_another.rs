//! Several owners of the same release are one choice: where one cannot answer, another does, before the first byte; no other release
//! ever does, and no call is paid twice (rule 3).

use comity_node::shell;
use comity_sdk::client::{Cost, Tried};
use comity_sdk::keys::Key;
use comity_sdk::{Answer, Client, Error, Name, Query};
use comity_tests::federation::{LOOPBACK, PER_REQUEST, REQUEST_UCR, chain, eventually};
use comity_tests::{Federation, Owner, Scripted, process};
use comity_wire::{Amount, Code, NodeId};
use serde_json::{Value, json};

/// Twice and half of [`PER_REQUEST`].
const DEAR: &str = r#"{ meter = "requests", steps = [{ from = 0, ucr_per_million = 2_000_000_000 }] }"#;
const DEAR_UCR: u32 = 2 * REQUEST_UCR;
const CHEAP: &str = r#"{ meter = "requests", steps = [{ from = 0, ucr_per_million = 500_000_000 }] }"#;

/// `lab` and, dearer, `museum` offer one release. `forge` and `vendor` offer the same weights in another form, for less than either, and
/// show them to nobody.
struct World {
    federation: Federation,
    lab: Scripted,
    museum: Scripted,
    forge: Scripted,
    vendor: Scripted,
}

impl World {
    async fn start() -> Self {
        Self::with(Scripted::start().await).await
    }

    async fn with(lab: Scripted) -> Self {
        let (museum, forge, vendor) = (Scripted::start().await, Scripted::start().await, Scripted::start().await);
        let owners = [
            Owner::scripted("lab", &lab, PER_REQUEST),
            Owner::scripted("museum", &museum, DEAR),
            Owner::scripted("forge", &forge, CHEAP),
            Owner::scripted("vendor", &vendor, CHEAP),
        ];
        let federation = Federation::start_with(&owners, LOOPBACK, |name, home| {
            let weights = |digit: &str| format!("weights = \"{}\"", digit.repeat(64));
            if !matches!(name, "forge" | "vendor") {
                return;
            }
            let file = home.join("models/model.toml");
            let text = std::fs::read_to_string(&file).expect("a model's file");
            assert!(text.contains(&weights("0")), "the very same weights");
            let text = text.replace("dtype = \"f32\"", "dtype = \"f16\"");
            std::fs::write(file, text.replace("undisclosed = false", "undisclosed = true")).expect("a model's file");
        });
        Self { federation: federation.await, lab, museum, forge, vendor }
    }

    fn node(&self, owner: &str) -> NodeId {
        self.federation.card(owner).node
    }

    fn asked(&self) -> [usize; 4] {
        [&self.lab, &self.museum, &self.forge, &self.vendor].map(Scripted::asked)
    }

    /// Ends every token, and gives what was settled.
    async fn settled(&self, clients: &[&Client]) -> Amount {
        for client in clients {
            for purse in client.purses().await.into_iter().filter(|purse| purse.unfinished) {
                client.finish(purse.token).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
            }
        }
        self.federation.books_add_up().await.settled
    }
}

fn open(client: &Client, name: &str, key: &str, question: &str) -> Query<Name> {
    let key = Some(Key::of_caller(key.as_bytes(), client.now()));
    let name = name.parse().unwrap_or_else(|error| panic!("{error}"));
    Query { key, ..Query::<Name>::question(&name, &[("user", question)], Some(8), false) }
}

async fn ask(client: &Client, query: &Query<Name>) -> Answer {
    client.ask(query).await.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

fn served(answer: &Answer) -> (&str, NodeId, &[Tried]) {
    let served = answer.notes.served.as_ref().expect("its caller left it open");
    assert_eq!(served.model, answer.receipt.model, "the receipt is of the model that answered");
    assert_eq!(served.node, answer.receipt.node);
    (served.model.organisation(), served.node, &served.tried)
}

fn unreachable(owner: &str) -> Tried {
    let model = format!("{owner}/model").parse().expect("a model");
    Tried { model, code: Code::NodeUnreachable.as_str().to_owned(), cost: Cost::Charged(Amount::ZERO) }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_one_owner_is_gone_another_answers_and_the_call_is_paid_once() {
    let mut world = World::start().await;
    let client = world.federation.client("open");
    let first = ask(&client, &open(&client, "same:museum/model", "a", "one")).await;
    assert_eq!(
        served(&first),
        ("lab", world.node("lab"), &[][..]),
        "the cheapest of the same release, whoever was named"
    );
    assert_eq!(first.receipt.charge, Amount::from_ucr(REQUEST_UCR));

    world.federation.service("lab").kill().await;
    let second = ask(&client, &open(&client, "same:museum/model", "b", "two")).await;
    assert_eq!(served(&second), ("museum", world.node("museum"), &[unreachable("lab")][..]));
    assert_eq!((second.receipt.charge, second.receipt.release), (Amount::from_ucr(DEAR_UCR), first.receipt.release));
    assert_eq!(world.asked(), [1, 1, 0, 0]);

    // The same key is the same call: its answer is where it was paid, also once the first is back.
    let again = ask(&client, &open(&client, "same:museum/model", "b", "two")).await;
    assert_eq!((again.receipt.id(), &again.body), (second.receipt.id(), &second.body));
    world.federation.service("lab").restart().await;
    drop(client);
    let client = world.federation.client("open");
    let again = ask(&client, &open(&client, "same:museum/model", "b", "two")).await;
    assert_eq!((again.receipt.id(), served(&again).0), (second.receipt.id(), "museum"));
    // Another request under it is none.
    for other in ["same:lab/model", "any:op=chat"] {
        let refused = client.ask(&open(&client, other, "b", "two")).await;
        assert!(matches!(refused, Err(Error::KeyConflict)), "{other}: {refused:?}");
    }
    let plain = Query::chat("museum/model".parse().unwrap(), &[("user", "two")], Some(8), false);
    let plain = Query { key: Some(Key::of_caller(b"b", client.now())), ..plain };
    assert!(matches!(client.ask(&plain).await, Err(Error::KeyConflict)));
    assert_eq!(world.asked(), [1, 1, 0, 0]);

    // It is asked again by those who come now.
    let third = eventually("the first is back", async || {
        let key = shell::random::<32>().map(|byte| char::from(b'a' + byte % 26)).iter().collect::<String>();
        let answer = ask(&client, &open(&client, "same:museum/model", &key, "three")).await;
        if served(&answer).0 == "lab" { Ok(()) } else { Err(format!("{:?}", served(&answer))) }
    });
    third.await;
    let [lab, museum, ..] = world.asked().map(|asked| u32::try_from(asked).expect("few"));
    assert_eq!(world.settled(&[&client]).await, Amount::from_ucr(lab * REQUEST_UCR + museum * DEAR_UCR));
    world.federation.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_release_answers_and_nothing_is_set_aside_for_who_is_gone() {
    let mut world = World::start().await;
    let client = world.federation.client("strict");
    world.federation.service("lab").kill().await;
    let answer = ask(&client, &open(&client, "same:lab/model", "a", "one")).await;
    assert_eq!(served(&answer), ("museum", world.node("museum"), &[unreachable("lab")][..]));
    let nodes: Vec<_> = client.purses().await.into_iter().map(|purse| purse.node).collect();
    assert_eq!(nodes, [world.node("museum")], "no token was drawn for a node that is not there");

    world.federation.service("museum").kill().await;
    let error = client.ask(&open(&client, "same:lab/model", "b", "two")).await.expect_err("nobody is left");
    let mut tried: Vec<_> = error.tried().iter().map(|tried| (tried.model.organisation(), tried.cost)).collect();
    tried.sort_by_key(|(owner, _)| *owner);
    let nothing = Cost::Charged(Amount::ZERO);
    assert_eq!(tried, [("lab", nothing), ("museum", nothing)], "{}", chain(&error));
    // What is offered for less is of the same weights, in another form.
    assert_eq!(world.asked(), [0, 1, 0, 0]);
    // Hidden weights are the same as nobody's, also where the digest of the release is.
    let ways = |name: &str| {
        let Name::Want(want) = name.parse().expect("a want") else { panic!("{name}") };
        let client = &client;
        async move {
            client
                .ways(&want, comity_wire::Op::Chat)
                .await
                .map(|models| models.iter().map(ToString::to_string).collect::<Vec<_>>())
        }
    };
    assert_eq!(ways("same:vendor/model").await.unwrap(), ["vendor/model"]);
    // Who asks for a capability is told who had it, and a condition that nobody meets is named.
    let answer = ask(&client, &open(&client, "any:op=chat,context>=200,price<=0.01,owner=forge", "c", "three")).await;
    assert_eq!((served(&answer).0, answer.receipt.charge), ("forge", Amount::from_ucr(REQUEST_UCR / 2)));
    let error = ways("any:op=chat,residency=EU").await.expect_err("nobody says where its data is");
    assert!(chain(&error).contains("its data may be in places that are not stated"), "{}", chain(&error));
    assert!(matches!(error, Error::NoChoice { .. }) && error.hint().is_some());
    // Within one call it stays with the release that it began with.
    world.federation.service("forge").kill().await;
    let error = client.ask(&open(&client, "any:op=chat,price<=0.01,owner=forge|museum", "d", "four")).await;
    let error = error.expect_err("the one that was chosen is gone");
    assert_eq!(error.tried(), [unreachable("forge")]);
    assert_eq!(world.asked(), [0, 1, 1, 0]);
    for owner in ["lab", "museum", "forge"] {
        world.federation.service(owner).restart().await;
    }
    let paid = Amount::from_ucr(DEAR_UCR + REQUEST_UCR / 2);
    assert_eq!(world.settled(&[&client]).await, paid);
    world.federation.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_are_looked_at_again_right_before_a_call() {
    let mut world = World::start().await;
    let client = world.federation.client("bounded");
    let name = "any:op=chat,price<=0.001,owner=lab|museum";
    let first = ask(&client, &open(&client, name, "a", "one")).await;
    assert_eq!((served(&first).0, first.receipt.charge), ("lab", Amount::from_ucr(REQUEST_UCR)));

    // The owner asks for twice as much from now on. What was found a moment ago says otherwise, and so does the open token.
    let file = world.federation.path().join("lab/models/model.toml");
    let text = std::fs::read_to_string(&file).expect("a model's file");
    assert!(text.contains(PER_REQUEST), "{text}");
    std::fs::write(&file, text.replace(PER_REQUEST, DEAR)).expect("a model's file");
    world.federation.service("lab").kill().await;
    world.federation.service("lab").restart().await;
    let lab = comity_wire::api::node::SearchQuery { org: Some("lab".to_owned()), ..Default::default() };
    eventually("the hub has the new price", async || {
        let hits = client.search(&lab).await.map_err(|error| chain(&error))?;
        let hint = hits.first().and_then(|hit| hit.summary.price_hint.clone());
        hint.filter(|hint| hint.request_ucr == u64::from(DEAR_UCR))
            .map(|_| ())
            .ok_or_else(|| "the price of before".to_owned())
    })
    .await;
    let refused = client.ask(&open(&client, name, "b", "two")).await.expect_err("nobody answers for as little");
    assert!(chain(&refused).contains("its price is"), "{}", chain(&refused));
    assert!(refused.tried().iter().all(|tried| tried.cost == Cost::Charged(Amount::ZERO)), "{refused:?}");
    assert_eq!(world.asked(), [1, 0, 0, 0], "nobody was asked");
    assert_eq!(world.settled(&[&client]).await, Amount::from_ucr(REQUEST_UCR));
    world.federation.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_charged_is_asked_for_at_its_node_and_nowhere_else() {
    let mut world = World::with(Scripted::shut().await).await;
    let client = std::sync::Arc::new(world.federation.client("doubt"));
    let query = open(&client, "same:lab/model", "a", "one");
    let asking = tokio::spawn({
        let (client, query) = (std::sync::Arc::clone(&client), query.clone());
        async move { client.ask(&query).await }
    });
    eventually("the model was asked", async || if world.lab.asked() > 0 { Ok(()) } else { Err("not yet".to_owned()) })
        .await;
    world.federation.service("lab").kill().await;
    let error = asking.await.expect("a call").expect_err("its node died");
    let [tried] = error.tried() else { panic!("{}", chain(&error)) };
    assert_eq!((tried.model.organisation(), tried.cost), ("lab", Cost::UpTo(Amount::from_ucr(REQUEST_UCR))));
    // However often it is asked.
    let error = client.ask(&query).await.expect_err("its node is away");
    assert_eq!(error.tried().len(), 1, "{}", chain(&error));
    assert!(chain(&error).contains("may be charged up to"), "{}", chain(&error));
    assert_eq!(world.asked(), [1, 0, 0, 0], "nobody else is paid for it meanwhile");

    // Another call is not held up by it.
    let other = ask(&client, &open(&client, "same:lab/model", "b", "two")).await;
    assert_eq!(served(&other).0, "museum");
    world.federation.service("lab").restart().await;
    world.lab.open();
    let answer = eventually("the node's word", async || client.ask(&query).await.map_err(|error| chain(&error))).await;
    assert_eq!((served(&answer).0, answer.receipt.charge), ("lab", Amount::from_ucr(REQUEST_UCR)));
    assert_eq!(world.settled(&[&client]).await, Amount::from_ucr(REQUEST_UCR + DEAR_UCR));
    world.federation.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_a_key_that_may_be_charged_is_paid_nowhere_else() {
    let mut world = World::with(Scripted::shut().await).await;
    let client = std::sync::Arc::new(world.federation.client("unnamed"));
    let query = Query { key: None, ..open(&client, "same:lab/model", "", "one") };
    let asking = tokio::spawn({
        let (client, query) = (std::sync::Arc::clone(&client), query.clone());
        async move { client.ask(&query).await }
    });
    eventually("the model was asked", async || if world.lab.asked() > 0 { Ok(()) } else { Err("not yet".to_owned()) })
        .await;
    world.federation.service("lab").kill().await;
    let error = asking.await.expect("a call").expect_err("its node died");
    let most = Cost::UpTo(Amount::from_ucr(REQUEST_UCR));
    assert_eq!(error.tried().iter().map(|tried| tried.cost).collect::<Vec<_>>(), [most], "{}", chain(&error));
    drop(client);
    // Asked again by whoever knows no key, also by another process: the one that may be charged is asked about, and the error says so.
    let client = world.federation.client("unnamed");
    for _ in 0..2 {
        let error = client.ask(&query).await.expect_err("its node is away");
        let [tried] = error.tried() else { panic!("{}", chain(&error)) };
        assert_eq!((tried.model.organisation(), tried.cost), ("lab", most), "{}", chain(&error));
        assert!(chain(&error).contains("may have charged up to"), "{}", chain(&error));
        assert!(error.hint().is_some_and(|hint| hint.contains("nobody is paid twice")), "{:?}", error.hint());
    }
    assert_eq!(world.asked(), [1, 0, 0, 0], "nobody else is paid for it meanwhile");
    // Another question is not held up by it.
    let other = Query { key: None, ..open(&client, "same:lab/model", "", "two") };
    assert_eq!(served(&ask(&client, &other).await).0, "museum");
    world.federation.service("lab").restart().await;
    world.lab.open();
    let answer = eventually("the node's word", async || client.ask(&query).await.map_err(|error| chain(&error))).await;
    assert_eq!((served(&answer).0, answer.receipt.charge), ("lab", Amount::from_ucr(REQUEST_UCR)));
    assert_eq!(world.settled(&[&client]).await, Amount::from_ucr(REQUEST_UCR + DEAR_UCR));
    world.federation.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_clients_and_the_command_line_are_told_who_served_them() {
    let mut world = World::start().await;
    world.federation.service("lab").kill().await;
    let ada = world.federation.researcher().await;
    let said = process::run(&["--home", &ada, "chat", "same:lab/model", "Where?", "--max-tokens", "8", "--json"]).await;
    assert!(said.success, "{}", said.stderr);
    let shown: Value = serde_json::from_str(&said.stdout).expect("JSON");
    let tried = json!([{"model": "lab/model", "code": "node_unreachable", "cost": {"charged": 0}}]);
    let node = world.node("museum");
    let expected = json!({"asked": "same:lab/model", "model": "museum/model", "node": node, "tried": tried});
    assert_eq!(shown["served"], expected);
    assert_eq!(shown["receipt"]["model"], "museum/model");
    assert!(said.stderr.contains("did not answer: lab/model (node_unreachable, not charged)"), "{}", said.stderr);
    let refused = process::run(&["--home", &ada, "chat", "any:price=1", "Where?"]).await;
    assert!(!refused.success && refused.stderr.contains("price<=CREDITS"), "{}", refused.stderr);

    let mut proxy = process::spawn(&["--home", &ada, "proxy", "--listen", "127.0.0.1:0"]);
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(proxy.stdout.take().expect("piped")));
    let base = lines.next_line().await.expect("it is read").expect("it says where it listens");
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let post = async |model: &str, key: &str, stream: bool| {
        let messages = json!([{"role": "user", "content": "Where?"}]);
        let body = json!({"model": model, "messages": messages, "max_tokens": 8, "stream": stream});
        let request = client.post(format!("{base}/chat/completions")).header("idempotency-key", key).json(&body);
        let reply = request.send().await.expect("it answers");
        let header = |name: &str| reply.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
        let told = ["comity-model", "comity-tried", "comity-receipt-id", "comity-cost"].map(header);
        (reply.status().as_u16(), told, reply.text().await.expect("a body"))
    };
    let away = r#""lab/model";code=node_unreachable;cost=0"#.to_owned();
    let (status, [model, tried, receipt, cost], body) = post("same:lab/model", "k", false).await;
    assert_eq!((status, model, tried), (200, Some("museum/model".to_owned()), Some(away.clone())), "{body}");
    assert_eq!(cost, Some(DEAR_UCR.to_string()));
    let (_, [model, _, again, cost], _) = post("same:lab/model", "k", false).await;
    assert_eq!(
        (model, again, cost.as_deref()),
        (Some("museum/model".to_owned()), receipt, Some("0")),
        "asked twice, paid once"
    );
    let (status, [model, ..], body) = post("same:lab/model", "streamed", true).await;
    assert_eq!((status, model.as_deref()), (200, Some("museum/model")));
    assert!(body.contains("data: [DONE]"), "{body}");
    let (status, _, body) = post("any:context<=8k", "wrong", false).await;
    let error: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, &error["error"]["param"]), (400, &json!("model")), "{body}");
    let (status, _, body) = post("any:context>=8k", "none", false).await;
    assert!(status == 404 && body.contains("its context is 256 tokens"), "{status} {body}");
    world.federation.service("museum").kill().await;
    let (status, _, body) = post("same:lab/model", "gone", false).await;
    let error: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, error["error"]["tried"].as_array().map(Vec::len)), (502, Some(2)), "{body}");
    assert_eq!(world.asked(), [0, 3, 0, 0]);
    for owner in ["lab", "museum"] {
        world.federation.service(owner).restart().await;
    }
    let stopped = process::stop(proxy).await;
    assert!(stopped.success, "{}", stopped.stderr);
    process::run(&["--home", &ada, "wallet", "finish"]).await;
    assert_eq!(world.federation.books_add_up().await.settled, Amount::from_ucr(3 * DEAR_UCR));
    world.federation.end().await;
}

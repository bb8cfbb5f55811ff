//! A call that is sent again, and that its node refuses before it looks up what it has charged: what the refusal says it says of the
//! second time alone (rule 3). The lab's node takes one call at a time, and says `busy` to all others before it looks at them.

use std::sync::Arc;

use comity_sdk::client::{Cost, Streaming};
use comity_sdk::keys::Key;
use comity_sdk::{Client, Error, Name, Query};
use comity_tests::federation::{LOOPBACK, PER_REQUEST, REQUEST_UCR, chain, eventually};
use comity_tests::{Federation, Owner, Scripted};
use comity_wire::{Amount, Code};
use tokio::task::JoinHandle;

const DEAR: &str = r#"{ meter = "requests", steps = [{ from = 0, ucr_per_million = 2_000_000_000 }] }"#;

struct World {
    federation: Federation,
    lab: Scripted,
    museum: Scripted,
    other: Arc<Client>,
}

impl World {
    /// `lab`, and for twice as much `museum`, offer one release.
    async fn start() -> Self {
        let (lab, museum) = (Scripted::start().await, Scripted::start().await);
        let owners = [Owner::scripted("lab", &lab, PER_REQUEST), Owner::scripted("museum", &museum, DEAR)];
        let federation = Federation::start_with(&owners, LOOPBACK, |name, home| {
            if name == "lab" {
                std::fs::write(home.join("node.toml"), "[gateway]\nin_flight_max = 1\n").expect("node.toml");
            }
        });
        let federation = federation.await;
        let other = Arc::new(federation.client("other"));
        Self { federation, lab, museum, other }
    }

    /// Leaves a stream that has begun, so that it is charged and its receipt never comes, and then takes the place at the lab: until
    /// that call ends, the node refuses all others unseen.
    async fn charge_and_block(&self, left: Streaming<'_>) -> JoinHandle<()> {
        let before = self.lab.asked();
        drop(left);
        // The place is free once the call before was charged.
        asked_once_free(&self.other, "A call that is over at once?").await;
        self.lab.close();
        let other = Arc::clone(&self.other);
        let blocking = tokio::spawn(async move {
            loop {
                match other.ask(&plain("A call that takes the place?")).await {
                    // The one before has its answer, and the place is not free yet.
                    Err(error) if error.code() == Some(Code::Busy) => tokio::task::yield_now().await,
                    done => return drop(done.unwrap_or_else(|error| panic!("{}", chain(&error)))),
                }
            }
        });
        self.reach(before, 2).await;
        blocking
    }

    async fn reach(&self, before: usize, more: usize) {
        let asked = async || match self.lab.asked() {
            asked if asked >= before + more => Ok(()),
            asked => Err(format!("{asked} asked")),
        };
        eventually("the model is asked", asked).await;
    }

    /// Ends every token, and gives what was settled.
    async fn settled(&self, client: &Client) -> Amount {
        for client in [client, &*self.other] {
            for purse in client.purses().await.into_iter().filter(|purse| purse.unfinished) {
                client.finish(purse.token).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
            }
        }
        self.federation.books_add_up().await.settled
    }
}

async fn asked_once_free(client: &Client, question: &str) {
    eventually("the place is free", async || client.ask(&plain(question)).await.map_err(|error| chain(&error))).await;
}

fn plain(question: &str) -> Query {
    Query::chat("lab/model".parse().expect("a model"), &[("user", question)], Some(8), false)
}

fn open(key: Option<Key>) -> Query<Name> {
    let name = "same:lab/model".parse().expect("a want");
    Query { key, ..Query::<Name>::question(&name, &[("user", "Whoever?")], Some(8), true) }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_busy_node_has_charged_is_asked_for_and_nobody_else_is_paid() {
    let world = World::start().await;
    let client = Arc::new(world.federation.client("again"));
    let key = Key::of_caller(b"k", client.now());
    // One whose caller leaves it open who answers, under a key; one of a model's name without any.
    let left = client.stream(&open(Some(key))).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let blocking = world.charge_and_block(left).await;
    let error = client.stream(&open(Some(key))).await.err().expect("its answer is not to be had now");
    let [tried] = error.tried() else { panic!("{}", chain(&error)) };
    let paid = Cost::Charged(Amount::from_ucr(REQUEST_UCR));
    assert_eq!((tried.model.organisation(), tried.cost), ("lab", paid), "{}", chain(&error));
    assert_eq!(world.museum.asked(), 0, "nobody else is paid for it");
    world.lab.open();
    blocking.await.expect("a call");

    let question = Query::chat("lab/model".parse().expect("a model"), &[("user", "Without a key?")], Some(8), true);
    let left = client.stream(&question).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let blocking = world.charge_and_block(left).await;
    let asked = world.lab.asked();
    let error = client.stream(&question).await.err().expect("it was charged, and its answer never came");
    let Error::Replayed { charge, .. } = error else { panic!("{}", chain(&error)) };
    assert_eq!((charge, error.code()), (Amount::from_ucr(REQUEST_UCR), Some(Code::Replayed)));
    world.lab.open();
    blocking.await.expect("a call");
    assert_eq!(world.lab.asked(), asked, "it was asked no second time");
    // Told of it, its caller may ask again, and means another call.
    let again = async || client.stream(&question).await.map_err(|error| chain(&error));
    let mut again = eventually("the place is free", again).await;
    while again.next().await.unwrap_or_else(|error| panic!("{}", chain(&error))).is_some() {}
    again.receipt().await.unwrap_or_else(|error| panic!("{}", chain(&error)));

    // Three of this wallet's, and two times two that were in the way.
    assert_eq!((world.lab.asked(), world.museum.asked()), (7, 0));
    assert_eq!(world.settled(&client).await, Amount::from_ucr(7 * REQUEST_UCR));
    world.federation.end().await;
}

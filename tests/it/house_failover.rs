//! A house whose PostgreSQL is lost while it sells and settles: it goes on at the synchronous standby by itself, and whatever was
//! answered stands there.

mod postgres {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use comity_scratch::Server;
    use comity_sdk::{Client, Query};
    use comity_tests::federation::{LOOPBACK, PER_REQUEST, REQUEST_UCR, books_in_postgres};
    use comity_tests::{Federation, Owner, Scripted, eventually};
    use comity_wire::{Amount, ModelId, TokenId};

    /// Tokens that have to be drawn, asked with and ended before the next thing happens.
    const ROUNDS: u32 = 6;

    /// What one wallet was answered.
    #[derive(Default)]
    struct Answered {
        bought: Vec<TokenId>,
        ended: Vec<TokenId>,
        asked: u32,
    }

    struct Work {
        stop: AtomicBool,
        ended: AtomicU32,
        failed: AtomicU32,
    }

    impl Work {
        /// Draws, asks, ends; what a lost database refuses is asked again, as programs do.
        async fn go_on(&self, client: &Client, model: &ModelId) -> Answered {
            let mut answered = Answered::default();
            while !self.stop.load(Ordering::SeqCst) {
                let Some(token) = self.told(client.buy(model, Amount::from_ucr(2 * REQUEST_UCR), 0).await) else {
                    continue;
                };
                answered.bought.push(token);
                let query = Query::chat(model.clone(), &[("user", "Where?")], Some(8), false);
                if client.ask(&query).await.is_ok() {
                    answered.asked += 1;
                }
                while self.told(client.finish(token).await).is_none() {}
                answered.ended.push(token);
                self.ended.fetch_add(1, Ordering::SeqCst);
            }
            answered
        }

        fn told<T, E>(&self, answer: Result<T, E>) -> Option<T> {
            if answer.is_err() {
                self.failed.fetch_add(1, Ordering::SeqCst);
            }
            answer.ok()
        }

        async fn rounds(&self) {
            let reach = self.ended.load(Ordering::SeqCst) + ROUNDS;
            eventually("rounds", async || match self.ended.load(Ordering::SeqCst) {
                ended if ended >= reach => Ok(()),
                ended => Err(format!("{ended} of {reach}, {} calls failed", self.failed.load(Ordering::SeqCst))),
            })
            .await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_house_goes_on_at_the_standby_and_nothing_that_was_answered_is_lost() {
        let servers = tokio::task::spawn_blocking(|| {
            let first = Server::start(&["synchronous_standby_names=second", "wal_level=replica"]);
            let second = first.standby("second");
            let state = "SELECT sync_state FROM pg_stat_replication";
            first.until("the standby is synchronous", |first| first.say(state) == "sync");
            (first, second)
        });
        let (mut first, second) = servers.await.expect("two servers");
        let url = comity_scratch::url_of(&[&first, &second]);
        let upstream = Scripted::start().await;
        let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
        let federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, |name, home| match name {
            "lab" => std::fs::write(home.join("node.toml"), "[gateway]\nclaim_every_s = 1\n").expect("node.toml"),
            "house" => books_in_postgres(home, &url),
            _ => {}
        })
        .await;
        let work = Arc::new(Work { stop: AtomicBool::new(false), ended: AtomicU32::new(0), failed: AtomicU32::new(0) });
        let wallets: Vec<_> = ["one", "two"]
            .into_iter()
            .map(|name| {
                let (client, model, work) = (federation.client(name), lab.model(), Arc::clone(&work));
                tokio::spawn(async move { work.go_on(&client, &model).await })
            })
            .collect();
        work.rounds().await;
        let lost = tokio::task::spawn_blocking(move || {
            first.stop_immediate();
            second.promote();
            (first, second)
        });
        let (first, second) = lost.await.expect("the second takes over");
        work.rounds().await;
        work.stop.store(true, Ordering::SeqCst);
        let mut answered = Answered::default();
        for wallet in wallets {
            let own = wallet.await.expect("the work ends");
            answered.bought.extend(own.bought);
            answered.ended.extend(own.ended);
            answered.asked += own.asked;
        }
        let told = tokio::task::spawn_blocking(move || (second.say("SELECT pg_is_in_recovery()"), first, second));
        let (recovering, first, second) = told.await.expect("it answers");
        assert_eq!(recovering, "f");

        // Every token that was sold is in the books of the second, every final too, and every answer is paid for once.
        let account = eventually("every charge is settled", async || {
            let account = federation.account().await;
            let charged = Amount::from_ucr(answered.asked * REQUEST_UCR);
            if account.settled == charged && account.in_escrow.is_zero() {
                Ok(account)
            } else {
                Err(format!("{} of {charged} settled, {} in escrow", account.settled, account.in_escrow))
            }
        })
        .await;
        assert_eq!(answered.bought, answered.ended);
        let known: BTreeSet<TokenId> =
            account.tokens.iter().filter(|token| token.closed).map(|token| token.token).collect();
        let lost: Vec<_> = answered.ended.iter().filter(|token| !known.contains(token)).collect();
        assert!(lost.is_empty(), "of {} tokens these are lost: {lost:?}", answered.ended.len());
        assert_eq!(federation.books_add_up().await.settled, account.settled);
        federation.end().await;
        drop((first, second));
    }
}

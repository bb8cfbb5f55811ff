//! The house, tried as its callers use it, on each engine that may keep its books.

/// A test for each function and engine. Those that need a server are in a module `postgres`: the runner knows them by it.
macro_rules! on_each_store {
    ($($name:ident)+) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::On::Sqlite).await;
            })+
        }

        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::On::Postgres).await;
            })+
        }
    };
}

mod amie;
mod amie_persons;
mod api;
mod auditing;
mod central;
mod central_usage;
mod classes;
mod counts;
mod credits;
mod decisions;
mod disputes;
mod exchange;
mod federation;
mod findings;
mod issuing;
mod lab;
mod logging;
mod logins;
mod lots;
mod mandates;
mod moving;
mod oversight;
mod owners;
mod periods;
mod persons;
mod prices;
mod proposals;
mod provider;
mod recharge;
mod replicas;
mod reports;
mod restored;
mod rights;
mod sampled;
mod settling;
mod standing;
mod story;
mod tails;
mod vital;
mod world;
mod writeoff;

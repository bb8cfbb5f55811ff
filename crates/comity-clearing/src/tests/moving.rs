//! Books that outgrow SQLite go on in PostgreSQL: row for row, with their log, and nobody notices.

use comity_ledger::Database;
use comity_ledger::books::CopyError;
use comity_ledger::db::{MigrationStanding, query};
use serde_json::json;

use super::world::*;
use crate::{ops, store};

mod postgres {
    use super::*;

    #[tokio::test]
    async fn books_go_on_in_postgres_with_their_log_and_their_claims() {
        let mut world = World::new(On::Sqlite, 10_000).await;
        let mut lab = world.buy(1_000).await;
        lab.charge(lab.root(), 0, PRICE);
        assert_eq!(world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await.0, 200);
        lab.taken();
        let other = world.buy(50).await;
        world.house.revoke(other.token.id).await.unwrap();
        world.house.log_advance().await.unwrap();
        world.house.shutdown().await;

        let old = world.books.database();
        let scratch = comity_scratch::Database::create().await;
        let new = Database::postgres(&scratch.url()).unwrap();
        let mut told = 0;
        let tables = ops::copy(&old, &new, |_, _| told += 1).await.unwrap();
        assert_eq!(tables.len(), told);
        let rows = |name: &str| tables.iter().find(|(table, _)| table == name).unwrap().1;
        assert_eq!((rows("project"), rows("token"), rows("claim")), (1, 2, 1));
        let (before, after) = (ops::audit(&old).await.unwrap(), ops::audit(&new).await.unwrap());
        assert!(after.holds, "{after:?}");
        assert_eq!((before.ledger.root, before.totals), (after.ledger.root, after.totals));
        assert_eq!(ops::trial_balance(&old).await.unwrap(), ops::trial_balance(&new).await.unwrap());
        assert_eq!(ops::glance(&old).await.unwrap().facts, ops::glance(&new).await.unwrap().facts);
        // The guards stand again, and numbers that the engine gives go on above those that came.
        let mut conn = new.connect().await.unwrap();
        assert!(query("UPDATE transfer SET amount = amount + 1").execute(&mut conn.db()).await.is_err());
        let again = ops::copy(&old, &new, |_, _| ()).await;
        assert!(matches!(again, Err(CopyError::NotEmpty)), "{again:?}");

        world.moved_to(scratch).await;
        let vetted = crate::ProjectVet {
            project: world.project,
            vetting: comity_wire::object::Vetting::Vetted,
            issuer: "operator".into(),
            claim: "again".into(),
            from: None,
            until: None,
        };
        world.house.project_vet(vetted).await.unwrap();
        lab.charge(lab.root(), 0, PRICE);
        let (status, reply) = world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await;
        assert_eq!((status, &reply["settled"]), (200, &json!(PRICE)), "{reply}");
        let signed = world.house.log_advance().await.unwrap();
        assert!(signed.size > before.ledger.transfers, "the log goes on where it was");
        assert!(world.house.log_audit().await.unwrap().holds);
        assert!(world.house.audit().await.unwrap().holds);
    }

    /// A row that the new tables refuse: nothing of the others is kept.
    #[tokio::test]
    async fn books_that_do_not_fit_are_not_copied_by_half() {
        let world = World::new(On::Sqlite, 10_000).await;
        world.house.shutdown().await;
        let old = world.books.database();
        let mut conn = world.books.connect().await;
        for sql in
            ["PRAGMA foreign_keys = OFF", "INSERT INTO pseudonym VALUES (zeroblob(16), zeroblob(16), zeroblob(16))"]
        {
            query(sql).execute(&mut conn.db()).await.unwrap();
        }
        let scratch = comity_scratch::Database::create().await;
        let new = Database::postgres(&scratch.url()).unwrap();
        ops::copy(&old, &new, |_, _| ()).await.unwrap_err();
        let mut conn = new.connect().await.unwrap();
        let rows = query("SELECT COUNT(*) FROM project").fetch_one(&mut conn.db()).await.unwrap().first().unwrap();
        assert_eq!(rows, 0);
    }
}

#[tokio::test]
async fn each_migration_is_shown_as_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::sqlite(dir.path().join("house.db"));
    comity_ledger::books::migrate(&database, store::migrations_until(506)).await.unwrap();
    let states = ops::migrations(&database).await.unwrap();
    let of = |standing| {
        states.iter().filter(|state| state.standing == standing).map(|state| state.number).collect::<Vec<_>>()
    };
    let pending = of(MigrationStanding::Pending);
    assert!(pending.contains(&store::RESTORED) && pending.contains(&520) && !pending.contains(&506), "{pending:?}");
    ops::migrate(&database).await.unwrap();
    assert!(ops::migrations(&database).await.unwrap().iter().all(|state| state.standing == MigrationStanding::Applied));
    let mut conn = database.connect().await.unwrap();
    for sql in [
        "UPDATE _sqlx_migrations SET checksum = zeroblob(48) WHERE version = 504",
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9000, 'later', 1, x'00', 0)",
    ] {
        query(sql).execute(&mut conn.db()).await.unwrap();
    }
    let states = ops::migrations(&database).await.unwrap();
    let standing = |number| states.iter().find(|state| state.number == number).unwrap().standing;
    assert_eq!([standing(504), standing(9_000)], [MigrationStanding::Differs, MigrationStanding::Unknown]);
}

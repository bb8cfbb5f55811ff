//! However a federation's members come up, the hub soon has what each of them last said.
//!
//! `COMITY_STARTS` sets how often one is started.

use std::collections::BTreeMap;

use comity_sdk::door::Door;
use comity_tests::federation::{PER_TOKEN, chain};
use comity_tests::{Federation, Owner, Scripted, eventually};
use comity_wire::api::node::HeadsReply;
use comity_wire::object::Head;
use comity_wire::{Digest, OrgId, Signed};

#[tokio::test(flavor = "multi_thread")]
async fn the_hub_has_every_owners_newest_head_after_every_start() {
    let starts = std::env::var("COMITY_STARTS").ok().map_or(1, |text| text.parse().expect("COMITY_STARTS is a number"));
    let upstream = Scripted::start().await;
    let owners = ["lab", "uni", "agency"].map(|name| Owner::scripted(name, &upstream, PER_TOKEN));
    for start in 1..=starts {
        let mut federation = Federation::start(&owners).await;
        let began = std::time::Instant::now();
        for name in ["lab", "uni", "agency", "house"] {
            let org = federation.card(name).organisation;
            eventually(&format!("start {start}: the hub has what {name} said"), async || {
                let own = heads(&mut federation, name).await?;
                let at_hub = heads(&mut federation, "hub").await?;
                let (own, at_hub) = (own.get(&org), at_hub.get(&org));
                if own.is_some() && own == at_hub {
                    Ok(())
                } else {
                    Err(format!("{own:?} there, {at_hub:?} at the hub"))
                }
            })
            .await;
        }
        eprintln!("start {start}: {} ms", began.elapsed().as_millis());
        federation.end().await;
    }
}

async fn heads(federation: &mut Federation, name: &str) -> Result<BTreeMap<OrgId, Digest>, String> {
    let key = federation.card(name).transport_key;
    let door =
        Door::new(vec![federation.service(name).ready.door.clone()], vec![key]).map_err(|error| chain(&error))?;
    let reply: HeadsReply = door.get("/comity/v1/heads").await.map_err(|error| chain(&error))?;
    let head = |frame: &comity_wire::api::node::HeadFrame| {
        let head = Signed::<Head>::decode(&frame.head).expect("a door shows heads");
        (head.unverified().org, head.id())
    };
    Ok(reply.heads.iter().map(head).collect())
}

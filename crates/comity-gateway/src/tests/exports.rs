//! What is kept of one project: all of it, of nobody else, page by page.

use comity_wire::TokenId;
use comity_wire::cbor::Text;
use serde_json::json;

use super::world::*;
use crate::CallKept;

async fn charged(world: &World, chain: &[u8], seqs: &[(u16, u64)]) {
    for (lane, seq) in seqs {
        let ask = world.ask(chain).lane(*lane).seq(*seq).body(chat("hi", json!({"max_tokens": 5})));
        assert_eq!(world.code(&ask).await, "ok");
    }
}

async fn pages(world: &World, subject: &str, most: usize) -> Vec<CallKept> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let (page, next) = world.gateway.calls_of(subject, after, most).await.unwrap();
        assert!(page.len() <= most);
        all.extend(page);
        after = next;
        if after.is_none() {
            return all;
        }
    }
}

#[tokio::test]
async fn calls_of_a_project_come_page_by_page_over_tokens_and_lanes() {
    let world = World::new(Setting::default()).await;
    let first = world.mint(|_| ());
    let second = world.mint(|token| token.id = TokenId([8; 16]));
    let other = world.mint(|token| {
        token.id = TokenId([9; 16]);
        token.subject = Text::new("sub-of-another").unwrap();
    });
    charged(&world, &first, &[(0, 1), (0, 2), (1, 1)]).await;
    charged(&world, &second, &[(0, 1), (0, 2)]).await;
    charged(&world, &other, &[(0, 1)]).await;
    // More tokens than one page looks at, with the other project's between them.
    for id in [10, 11, 12] {
        let more = world.mint(|token| token.id = TokenId([id; 16]));
        charged(&world, &more, &[(0, 1)]).await;
    }
    let whole = pages(&world, "sub-of-the-project", 1_000).await;
    assert_eq!(whole.len(), 8);
    let tokens: Vec<TokenId> = whole.iter().map(|call| call.token).collect();
    assert!(tokens.is_sorted() && tokens.last() == Some(&TokenId([12; 16])), "{tokens:?}");
    for most in [1, 2, 3, 5] {
        let again = pages(&world, "sub-of-the-project", most).await;
        let bytes = |calls: &[CallKept]| calls.iter().map(|call| call.receipt_bytes.clone()).collect::<Vec<_>>();
        assert_eq!(bytes(&again), bytes(&whole), "in pages of {most}");
    }
    assert_eq!(pages(&world, "sub-of-another", 10).await.len(), 1);
    assert!(pages(&world, "sub-of-nobody", 10).await.is_empty());
    let text = serde_json::to_string(&whole).unwrap();
    assert!(text.contains("@method") && !text.contains("\"hi\""), "the signed request, and nothing that was said");
    let counted = world.gateway.counted_of("sub-of-the-project").await.unwrap();
    assert!(counted["suspended"].is_null() && counted["windows"].is_array(), "{counted}");
}

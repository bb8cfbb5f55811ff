//! Batches of an unmodified OpenAI client, through the proxy: at their owners' batch price where there is one, also after a kill.

use comity_tests::federation::{LOOPBACK, eventually};
use comity_tests::process::{self, expect, spawn};
use comity_tests::{Federation, Owner, Scripted};
use serde_json::{Value, json};
use tokio::process::Child;

use super::compared::{CHAT_RATES, gives_batches, settled};

/// A client of OpenAI's files and batches.
struct Caller {
    base: String,
    client: reqwest::Client,
}

const LINES: usize = 5;
const ENDPOINT: &str = "/v1/chat/completions";

impl Caller {
    async fn of(proxy: &mut Child) -> Self {
        let stdout = tokio::io::BufReader::new(proxy.stdout.take().expect("piped"));
        let base = tokio::io::AsyncBufReadExt::lines(stdout).next_line().await;
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { base: base.expect("it is read").expect("it says where it listens"), client }
    }

    async fn json(request: reqwest::RequestBuilder) -> Value {
        let reply = request.send().await.expect("it answers");
        let (status, text) = (reply.status(), reply.text().await.expect("a body"));
        assert!(status.is_success(), "{status} {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    async fn batch(&self, lines: &str) -> Value {
        let form = format!(
            "--b\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n\
             --b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"in.jsonl\"\r\n\r\n{lines}\r\n--b--\r\n"
        );
        let upload = self.client.post(format!("{}/files", self.base)).body(form);
        let file = Self::json(upload.header("content-type", "multipart/form-data; boundary=b")).await;
        let asked = json!({"input_file_id": file["id"], "endpoint": ENDPOINT, "completion_window": "24h"});
        Self::json(self.client.post(format!("{}/batches", self.base)).json(&asked)).await
    }

    /// The lines of its answers, once it is completed.
    async fn answers(&self, id: &str) -> Vec<Value> {
        let batch = eventually("the end of a batch", async || {
            let batch = Self::json(self.client.get(format!("{}/batches/{id}", self.base))).await;
            if batch["completed_at"].is_null() { Err(batch.to_string()) } else { Ok(batch) }
        })
        .await;
        assert_eq!((&batch["request_counts"]["failed"], &batch["error_file_id"]), (&json!(0), &Value::Null), "{batch}");
        let file = format!("{}/files/{}/content", self.base, batch["output_file_id"].as_str().expect("an id"));
        let text = self.client.get(file).send().await.expect("it answers").text().await.expect("a body");
        text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect()
    }
}

fn lines(models: &[&str]) -> String {
    let line = |model: &str, n: usize| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": format!("{n} plus {n}?")}], "max_tokens": 8});
        json!({"custom_id": format!("{model} {n}"), "method": "POST", "url": ENDPOINT, "body": body}).to_string()
    };
    let of = |model: &&str| (0..LINES).map(|n| line(model, n) + "\n").collect::<String>();
    models.iter().map(of).collect()
}

/// What receipts say: of each model, ops and charges.
async fn charged(home: &str, model: &str) -> Vec<(String, i64)> {
    let receipts = expect(&["--home", home, "receipts", "list", "--json"]).await;
    let receipts: Vec<Value> = serde_json::from_str(&receipts).expect("a list");
    let of =
        |receipt: &Value| (receipt["op"].as_str().expect("an op").to_owned(), receipt["charge"].as_i64().expect("µcr"));
    receipts.iter().filter(|receipt| receipt["model"] == model).map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_through_the_proxy_is_asked_at_its_owners_batch_price_where_there_is_one() {
    let upstream = Scripted::shut().await;
    let owners = ["lab", "works"].map(|name| Owner::scripted(name, &upstream, CHAT_RATES));
    let federation = Federation::start_with(&owners, LOOPBACK, gives_batches).await;
    let ada = federation.researcher().await;
    let serve = ["--home", &ada, "proxy", "--listen", "127.0.0.1:0"];

    // Killed while its calls are under way: what was settled before the first holds after the last.
    let mut proxy = spawn(&serve);
    let batch = Caller::of(&mut proxy).await.batch(&lines(&["lab/model", "works/model"])).await;
    let id = batch["id"].as_str().expect("an id");
    assert_eq!(batch.get("batch_price"), None, "it is shown as OpenAI's is");
    eventually("a line was asked", async || if upstream.asked() > 0 { Ok(()) } else { Err("none".to_owned()) }).await;
    proxy.kill().await.expect("it is killed");
    upstream.open();

    let mut proxy = spawn(&serve);
    let answers = Caller::of(&mut proxy).await.answers(id).await;
    assert_eq!(answers.len(), 2 * LINES);
    let ended = process::stop(proxy).await;
    assert!(ended.success, "{}", ended.stderr);
    let (lab, works) = (charged(&ada, "lab/model").await, charged(&ada, "works/model").await);
    assert_eq!((lab.len(), works.len()), (LINES, LINES), "{lab:?} {works:?}");
    assert!(lab.iter().all(|(op, _)| op == "batch"), "{lab:?}");
    // Where there is none, it is asked as it ever was.
    assert!(works.iter().all(|(op, _)| op == "chat"), "{works:?}");
    // 9 in, 2 out: 100 and 33⅓ µcr a token instead of 200 and 400; each is rounded up in its lane.
    let sum = |of: &[(String, i64)]| of.iter().map(|(_, charge)| charge).sum::<i64>();
    let calls = i64::try_from(LINES).expect("few");
    assert_eq!(sum(&works), calls * (9 * 200 + 2 * 400));
    assert!((calls * 966..=calls * 967).contains(&sum(&lab)), "{lab:?}");
    assert_eq!(settled(&federation, &ada).await, sum(&lab) + sum(&works));
    federation.end().await;
}

/// A line that waits for its next try when the proxy is told to end is the next proxy's, not an error.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_node_is_away_outlives_an_orderly_end_of_the_proxy() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, CHAT_RATES);
    let mut federation = Federation::start(std::slice::from_ref(&lab)).await;
    let ada = federation.researcher().await;
    expect(&["--home", &ada, "chat", "lab/model", "hello", "--max-tokens", "8"]).await;
    let serve = ["--home", &ada, "proxy", "--listen", "127.0.0.1:0"];
    let mut proxy = spawn(&serve);
    federation.service("lab").kill().await;
    let caller = Caller::of(&mut proxy).await;
    let batch = caller.batch(&lines(&["lab/model"])).await;
    let id = batch["id"].as_str().expect("an id");
    eventually("it has begun", async || {
        let batch = Caller::json(caller.client.get(format!("{}/batches/{id}", caller.base))).await;
        if batch["in_progress_at"].is_null() { Err(batch.to_string()) } else { Ok(()) }
    })
    .await;
    let ended = process::stop(proxy).await;
    assert!(ended.success, "{}", ended.stderr);
    federation.service("lab").restart().await;
    let mut proxy = spawn(&serve);
    let answers = Caller::of(&mut proxy).await.answers(id).await;
    assert_eq!((answers.len(), upstream.asked()), (LINES, LINES + 1));
    process::stop(proxy).await;
    federation.end().await;
}

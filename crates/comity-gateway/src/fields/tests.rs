use super::*;
use crate::routes::{CHAT as CHAT_ROUTE, COMPLETIONS as COMPLETIONS_ROUTE};

fn read(route: &Route, body: &str) -> Result<Asked, Refusal> {
    super::read(route, super::body(body.as_bytes())?, || None)
}

fn chat(extra: &str) -> Result<Asked, Refusal> {
    read(&CHAT_ROUTE, &format!(r#"{{"model":"lab/m","messages":[{{"role":"user","content":"hi"}}]{extra}}}"#))
}

#[test]
fn what_is_not_in_the_table_is_dropped_and_named() {
    let asked = chat(r#","tools":[],"x,y":1,"temperature":0,"user":"me""#).unwrap();
    assert_eq!(asked.ignored, ["x_y", "user"]);
    assert_eq!(asked.body.keys().collect::<Vec<_>>(), ["messages", "temperature"]);
}

#[test]
fn nothing_untabled_hides_inside_a_message() {
    let with = |message: &str| read(&CHAT_ROUTE, &format!(r#"{{"model":"lab/m","messages":[{message}]}}"#));
    let call = r#"{"id":"a","type":"function","x":1,"function":{"name":"f","arguments":"{}","x":1}}"#;
    for (message, passes, ignored) in [
        (
            r#"{"role":"user","content":[{"type":"text","text":"a","cache_control":{}}],"x":{"y":1}}"#.to_owned(),
            r#"{"role":"user","content":[{"type":"text","text":"a"}]}"#.to_owned(),
            vec!["messages.content.cache_control", "messages.x"],
        ),
        (
            format!(r#"{{"role":"assistant","content":null,"annotations":[],"tool_calls":[{call}]}}"#),
            r#"{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]}"#
                .to_owned(),
            vec!["messages.annotations", "messages.tool_calls.x", "messages.tool_calls.function.x"],
        ),
        (
            r#"{"role":"developer","content":"a"}"#.to_owned(),
            r#"{"role":"system","content":"a"}"#.to_owned(),
            vec![],
        ),
        (
            r#"{"role":"tool","content":"a","tool_call_id":"a"}"#.to_owned(),
            r#"{"role":"tool","content":"a","tool_call_id":"a"}"#.to_owned(),
            vec![],
        ),
    ] {
        let asked = with(&message).unwrap();
        assert_eq!(asked.body["messages"][0].to_string(), passes);
        assert_eq!(asked.ignored, ignored);
    }
    for (bad, code) in [
        (r#"{"role":"tool","content":"a"}"#, "invalid_request"),
        (r#"{"role":"robot","content":"a"}"#, "invalid_request"),
        (r#"{"role":"user"}"#, "invalid_request"),
        (
            r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://inside/"}}]}"#,
            "content_not_text",
        ),
        (r#"{"role":"user","content":[{"type":"input_audio","input_audio":{"data":""}}]}"#, "content_not_text"),
        (r#"{"role":"user","content":[{"text":"a"}]}"#, "content_not_text"),
    ] {
        assert_eq!(with(bad).unwrap_err().code, code, "{bad}");
    }
}

/// What a model reads, the filter reads.
#[test]
fn every_text_that_passes_is_read_out() {
    let asked = chat(
        r#","stop":["S"],"tools":[{"type":"function","function":{"name":"N","description":"D","parameters":{"K":{"enum":["V"]}}}}],
        "response_format":{"type":"json_schema","json_schema":{"name":"F","schema":{"title":"T"}}}"#,
    )
    .unwrap();
    for text in ["hi", "S", "N", "D", "K", "V", "F", "T"] {
        assert!(asked.texts.iter().any(|read| read == text), "{text} is not in {:?}", asked.texts);
    }
    assert_eq!(asked.words_bytes, 3, "hi and D are words, the rest may be no part of the prompt");
    let away =
        chat(r#","response_format":{"type":"json_schema","json_schema":{"name":"F","schema":{"$ref":"http://a/b"}}}"#);
    assert_eq!(away.unwrap_err().code, "invalid_request");
    let deep = format!("{}1{}", r#"{"a":"#.repeat(40), "}".repeat(40));
    let deep = format!(r#","response_format":{{"type":"json_schema","json_schema":{{"name":"F","schema":{deep}}}}}"#);
    assert_eq!(chat(&deep).unwrap_err().code, "invalid_request");
}

#[test]
fn a_model_may_be_left_out_where_the_token_names_but_one_and_nothing_is_generated() {
    let one: ModelId = "lab/m".parse().unwrap();
    let read =
        |route, body: &str, only: Option<ModelId>| super::read(route, super::body(body.as_bytes()).unwrap(), || only);
    let tokenize = &crate::routes::TOKENIZE;
    assert_eq!(read(tokenize, r#"{"prompt":"a"}"#, Some(one.clone())).unwrap().model, one);
    assert_eq!(read(tokenize, r#"{"prompt":"a"}"#, None).unwrap_err().param.as_deref(), Some("model"));
    let chat = r#"{"messages":[{"role":"user","content":"a"}]}"#;
    assert_eq!(read(&CHAT_ROUTE, chat, Some(one)).unwrap_err().param.as_deref(), Some("model"));
}

#[test]
fn the_best_of_several_are_generated_and_n_are_answered() {
    let read = |more: &str| read(&COMPLETIONS_ROUTE, &format!(r#"{{"model":"lab/m","prompt":["a","b"]{more}}}"#));
    let asked = read(r#","n":2,"best_of":3"#).unwrap();
    assert_eq!((asked.n, asked.generated, asked.prompts()), (2, 3, 2));
    assert_eq!(asked.body["best_of"], 3);
    for bad in [r#","n":2,"best_of":1"#, r#","best_of":2,"stream":true"#, r#","n":0"#] {
        assert_eq!(read(bad).unwrap_err().code, "invalid_request", "{bad}");
    }
    assert!(!read(r#","stop":[]"#).unwrap().body.contains_key("stop"), "no stop at all");
}

#[test]
fn limits_are_read_in_both_spellings() {
    assert_eq!(chat("").unwrap().limit, Limit::None);
    assert_eq!(chat(r#","max_tokens":null"#).unwrap().limit, Limit::None);
    assert_eq!(chat(r#","max_tokens":9,"max_completion_tokens":7"#).unwrap().limit, Limit::Stated(7));
    assert_eq!(chat(r#","max_tokens":-1"#).unwrap_err().param.as_deref(), Some("max_tokens"));
    assert_eq!(chat(r#","max_tokens":1.5"#).unwrap_err().code, "invalid_request");
}

#[test]
fn prompts_are_counted() {
    let prompts = |prompt: &str| {
        let body = format!(r#"{{"model":"lab/m","prompt":{prompt}}}"#);
        read(&COMPLETIONS_ROUTE, &body).map(|asked| asked.prompts()).map_err(|refusal| refusal.code)
    };
    assert_eq!(prompts(r#""a""#), Ok(1));
    assert_eq!(prompts("[1,2]"), Ok(1));
    assert_eq!(prompts("[[1],[2,3]]"), Ok(2));
    assert_eq!(prompts(r#"["a","b","c"]"#), Ok(3));
    assert_eq!(prompts("[]"), Err("invalid_request"));
    assert_eq!(prompts("[[1],[]]"), Err("invalid_request"));
    assert_eq!(prompts("7"), Err("invalid_request"));
}

#[test]
fn every_priced_route_names_its_meters_and_its_model_field() {
    for route in crate::routes::PRICED {
        assert!(route.meters.contains(&comity_wire::Meter::Requests), "{}", route.paths[0]);
        assert!(route.fields.iter().any(|(name, _)| *name == "model"), "{}", route.paths[0]);
        assert!(route.needed.iter().all(|needed| route.fields.iter().any(|(name, _)| name == needed)));
    }
}

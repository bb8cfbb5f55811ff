//! Experiment plans as people write and read them.

use std::fmt::Write as _;

use comity_wire::cbor::{List, Text};
use comity_wire::object::{Plan, PlanOp};
use comity_wire::{ModelId, Op};
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::printer::plain;

/// Reads a plan's TOML. What is written in another order is the same plan.
///
/// # Errors
/// Every problem that it has, at once.
pub fn read(text: &str) -> Result<Plan, Vec<String>> {
    let table: Table = toml::from_str(text).map_err(|error| vec![error.message().to_owned()])?;
    let mut reading = Reading { problems: Vec::new() };
    let mut table = table;
    let title = reading.needed(&mut table, "", "title");
    let mut models: Vec<ModelId> = reading.needed(&mut table, "", "models").unwrap_or_default();
    let hours = reading.needed(&mut table, "", "hours");
    let mut data: Vec<Text<48>> = reading.may(&mut table, "", "data").unwrap_or_default();
    let purpose = reading.needed(&mut table, "", "purpose");
    let outputs = reading.needed(&mut table, "", "outputs");
    let rows: Vec<Table> = reading.needed(&mut table, "", "op").unwrap_or_default();
    let mut ops: Vec<PlanOp> = rows.into_iter().enumerate().filter_map(|(at, row)| reading.op(at + 1, row)).collect();
    reading.nothing_left(&table, "");
    models.sort();
    data.sort();
    ops.sort_by_key(|row| row.op);
    reading.once(&models, "model");
    reading.once(&data, "class of data");
    reading.once(&ops.iter().map(|row| row.op).collect::<Vec<_>>(), "op");
    let models = reading.list(models, "models");
    let (data, ops) = (reading.list(data, "data"), reading.list(ops, "op"));
    if !reading.problems.is_empty() {
        return Err(reading.problems);
    }
    let whole = || {
        Some(Plan {
            title: title?,
            models: models?,
            ops: ops?,
            hours: hours?,
            data: data?,
            purpose: purpose?,
            outputs: outputs?,
        })
    };
    let plan = whole().ok_or_else(|| vec!["the plan is not whole".to_owned()])?;
    match plan.to_bytes() {
        Ok(_) => Ok(plan),
        Err(malformed) => Err(vec![malformed.kind.to_string()]),
    }
}

struct Reading {
    problems: Vec<String>,
}

impl Reading {
    fn may<T: DeserializeOwned>(&mut self, table: &mut Table, place: &str, name: &str) -> Option<T> {
        let value: Value = table.remove(name)?;
        match value.try_into() {
            Ok(value) => Some(value),
            Err(error) => {
                self.problems.push(format!("{place}{name}: {}", error.message()));
                None
            }
        }
    }

    fn needed<T: DeserializeOwned>(&mut self, table: &mut Table, place: &str, name: &str) -> Option<T> {
        if !table.contains_key(name) {
            self.problems.push(format!("{place}{name} is missing"));
            return None;
        }
        self.may(table, place, name)
    }

    fn op(&mut self, at: usize, mut row: Table) -> Option<PlanOp> {
        let place = match row.get("op").and_then(Value::as_str) {
            Some(op) => format!("op {op}: "),
            None => format!("op number {at}: "),
        };
        let op: Option<Op> = self.needed(&mut row, &place, "op");
        let calls = self.needed(&mut row, &place, "calls");
        let (input_tokens, output_tokens) =
            (self.may(&mut row, &place, "input_tokens"), self.may(&mut row, &place, "output_tokens"));
        let output_tokens_max = self.may(&mut row, &place, "output_tokens_max");
        let (logprobs_max, choices_max) =
            (self.may(&mut row, &place, "logprobs_max"), self.may(&mut row, &place, "choices_max"));
        let mut sites: Vec<Text<64>> = self.may(&mut row, &place, "sites").unwrap_or_default();
        self.nothing_left(&row, &place);
        sites.sort();
        self.once(&sites, &format!("{place}site"));
        let sites = self.list(sites, &format!("{place}sites"))?;
        let (op, calls) = (op?, calls?);
        let row =
            PlanOp { op, calls, input_tokens, output_tokens, output_tokens_max, logprobs_max, choices_max, sites };
        if let Some(fault) = row.fault() {
            self.problems.push(format!("{place}{}", fault.trim_start_matches("plan: ")));
        }
        Some(row)
    }

    fn nothing_left(&mut self, table: &Table, place: &str) {
        self.problems.extend(table.keys().map(|name| format!("{place}{name} is nothing that a plan has")));
    }

    fn once<T: PartialEq + std::fmt::Display>(&mut self, sorted: &[T], what: &str) {
        let twice = sorted.windows(2).find(|pair| pair[0] == pair[1]);
        self.problems.extend(twice.map(|pair| format!("{what} {} is named twice", pair[0])));
    }

    fn list<T, const MAX: usize>(&mut self, items: Vec<T>, what: &str) -> Option<List<T, MAX>> {
        List::new(items).map_err(|error| self.problems.push(format!("{what}: {error}"))).ok()
    }
}

/// A plan as those read it who approve it.
pub fn told(plan: &Plan) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<12} {}", plain(value).replace('\n', "\n               "));
    };
    line("title", &plan.title);
    line("models", &plan.models.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    line("lasts", &format!("{} h from its first call on", plan.hours));
    for row in &plan.ops {
        let bounds = [
            Some(format!("{} calls", row.calls)),
            row.input_tokens.map(|most| format!("{most} tokens in")),
            row.output_tokens.map(|most| format!("{most} tokens out")),
            row.output_tokens_max.map(|most| format!("{most} in one answer")),
            row.logprobs_max.map(|most| format!("{most} alternatives a token")),
            row.choices_max.map(|most| format!("{most} choices")),
            (!row.sites.is_empty())
                .then(|| format!("at {}", row.sites.iter().map(Text::as_str).collect::<Vec<_>>().join(" "))),
        ];
        line(row.op.as_str(), &bounds.into_iter().flatten().collect::<Vec<_>>().join(", "));
    }
    let data = plan.data.iter().map(Text::as_str).collect::<Vec<_>>().join(" ");
    line("data", if data.is_empty() { "public" } else { &data });
    line("purpose", &plan.purpose);
    line("comes out", &plan.outputs);
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: &str = r#"
        title = "Where the answer is decided"
        models = ["lab/tiny"]
        hours = 24
        data = ["synthetic", "public"]
        purpose = "Which layer settles on the answer."
        outputs = "One number for each layer."

        [[op]]
        op = "logprobs"
        calls = 300
        input_tokens = 60_000
        output_tokens = 3_000
        logprobs_max = 5

        [[op]]
        op = "chat"
        calls = 10
        input_tokens = 1_000
        output_tokens = 1_000
    "#;

    #[test]
    fn one_plan_has_one_digest_however_it_is_written() {
        let plan = read(WRITTEN).unwrap();
        assert_eq!(plan.ops.iter().map(|row| row.op).collect::<Vec<_>>(), [Op::Chat, Op::Logprobs]);
        let (head, rows) = WRITTEN.split_once("[[op]]").unwrap();
        let (logprobs, chat) = rows.split_once("[[op]]").unwrap();
        let turned = format!("{head}[[op]]{chat}\n[[op]]{logprobs}")
            .replace(r#""synthetic", "public""#, r#""public", "synthetic""#);
        assert_eq!(read(&turned).unwrap().digest(), plan.digest());
        assert_ne!(read(&WRITTEN.replace("300", "301")).unwrap().digest(), plan.digest());
        assert!(told(&plan).contains("300 calls, 60000 tokens in, 3000 tokens out, 5 alternatives a token"));
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let bad = WRITTEN
            .replace("hours = 24", "days = 1")
            .replace("calls = 300", "calls = \"many\"")
            .replace("output_tokens = 1_000", "colour = 1");
        let problems = read(&bad).unwrap_err().join("\n");
        for said in [
            "hours is missing",
            "days is nothing",
            "op logprobs: calls",
            "op chat: colour",
            "op chat: this op needs output_tokens",
        ] {
            assert!(problems.contains(said), "{said}: {problems}");
        }
        assert!(
            read(&WRITTEN.replace("lab/tiny\"", "lab/tiny\", \"uni/small\"")).unwrap_err()[0].contains("one owner")
        );
    }
}

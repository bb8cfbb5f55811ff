//! What is asked: every model with every prompt under every setting, so often.

use std::collections::HashSet;

use comity_wire::{Digest, ModelId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Prompt;
use crate::chat::{NotAQuery, Query};

/// A comparison's plan. Two with the same content have the same digest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    pub models: Vec<ModelId>,
    pub prompts: Vec<Prompt>,
    pub settings: Vec<Setting>,
    /// How often each is asked, from 1.
    pub repeats: u32,
}

/// A name, and fields of the request's body: `temperature`, `max_tokens`, `seed` …
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    pub name: String,
    /// Stands before the prompt's own messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    #[serde(default)]
    pub fields: Map<String, Value>,
}

/// One call of a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// From 0, in the order in which they are asked: a prompt is asked of every model before the next one is.
    pub number: u64,
    pub prompt: usize,
    pub setting: usize,
    pub model: usize,
    pub repeat: u32,
}

/// Why a plan cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum NotAGrid {
    #[error("a comparison has at least one {0}")]
    Empty(&'static str),
    #[error("{what} {name:?} stands in it twice")]
    Twice { what: &'static str, name: String },
    #[error("that would be {0} calls, and {max} is the most of one comparison", max = Grid::ITEMS_MAX)]
    TooMany(u128),
    #[error("the setting {setting:?}: {what}")]
    Setting { setting: String, what: &'static str },
    #[error("the setting {setting:?} makes no request")]
    Query { setting: String, source: NotAQuery },
}

impl Setting {
    /// Answers as alike as a model gives them, of at most so many tokens.
    pub fn plain(max_tokens: u32) -> Self {
        let fields = [("temperature".to_owned(), json!(0)), ("max_tokens".to_owned(), json!(max_tokens))];
        Self { name: "default".to_owned(), system: None, fields: fields.into_iter().collect() }
    }
}

impl Grid {
    pub const ITEMS_MAX: u64 = 100_000;

    /// # Errors
    /// [`NotAGrid`].
    pub fn check(&self) -> Result<(), NotAGrid> {
        let models: Vec<_> = self.models.iter().map(ToString::to_string).collect();
        unique("model", models.iter().map(String::as_str))?;
        unique("prompt", self.prompts.iter().map(|prompt| prompt.id.as_str()))?;
        unique("setting", self.settings.iter().map(|setting| setting.name.as_str()))?;
        if self.repeats == 0 {
            return Err(NotAGrid::Empty("repeat"));
        }
        let count = [self.models.len(), self.prompts.len(), self.settings.len()];
        let count = count.iter().fold(u128::from(self.repeats), |product, part| product * *part as u128);
        if count > u128::from(Self::ITEMS_MAX) {
            return Err(NotAGrid::TooMany(count));
        }
        self.settings.iter().try_for_each(|setting| self.check_setting(setting))?;
        let mut firsts =
            (0..self.settings.len()).map(|setting| Item { number: 0, prompt: 0, setting, model: 0, repeat: 0 });
        firsts.try_for_each(|item| self.query(&item).map(drop))
    }

    fn check_setting(&self, setting: &Setting) -> Result<(), NotAGrid> {
        let wrong = |what| Err(NotAGrid::Setting { setting: setting.name.clone(), what });
        if ["model", "messages", "stream"].iter().any(|name| setting.fields.contains_key(*name)) {
            return wrong("`model`, `messages` and `stream` are not a setting's to say");
        }
        let limit = ["max_tokens", "max_completion_tokens"].iter().find_map(|name| setting.fields.get(*name));
        if limit.and_then(Value::as_u64).is_none_or(|limit| limit == 0) {
            return wrong("it needs `max_tokens`, so that it is known what a call may cost");
        }
        Ok(())
    }

    pub fn len(&self) -> u64 {
        let calls = self.models.len() * self.prompts.len() * self.settings.len();
        calls as u64 * u64::from(self.repeats)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn items(&self) -> impl Iterator<Item = Item> + use<> {
        let (models, settings, repeats) = (self.models.len(), self.settings.len(), self.repeats);
        (0..self.len()).map(move |number| {
            let at = usize::try_from(number).expect("few enough");
            let (at, model) = (at / models, at % models);
            let (at, repeat) = (at / repeats as usize, at % repeats as usize);
            let repeat = u32::try_from(repeat).expect("below repeats");
            Item { number, prompt: at / settings, setting: at % settings, model, repeat }
        })
    }

    /// What an item asks. Without a key or a maximum.
    ///
    /// # Errors
    /// [`NotAGrid::Query`].
    pub fn query(&self, item: &Item) -> Result<Query, NotAGrid> {
        let setting = &self.settings[item.setting];
        let system = setting.system.iter().map(|text| json!({"role": "system", "content": text}));
        let own = self.prompts[item.prompt].messages.iter().map(|message| json!(message));
        let messages: Vec<_> = system.chain(own).collect();
        let mut body = setting.fields.clone();
        body.insert("model".to_owned(), json!(self.models[item.model]));
        body.insert("messages".to_owned(), Value::Array(messages));
        let body = Value::Object(body).to_string().into_bytes();
        let wrong = |source| NotAGrid::Query { setting: setting.name.clone(), source };
        Query::from_body("/v1/chat/completions", body).map_err(wrong)
    }

    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("a grid has a JSON form"))
    }
}

fn unique<'a>(what: &'static str, names: impl Iterator<Item = &'a str>) -> Result<(), NotAGrid> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(NotAGrid::Twice { what, name: name.to_owned() });
        }
    }
    if seen.is_empty() { Err(NotAGrid::Empty(what)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        Grid {
            models: vec!["lab/a".parse().unwrap(), "lab/b".parse().unwrap()],
            prompts: vec![Prompt::asked("p", "one"), Prompt::asked("q", "two")],
            settings: vec![
                Setting::plain(5),
                Setting { name: "terse".into(), system: Some("be short".into()), ..Setting::plain(5) },
            ],
            repeats: 3,
        }
    }

    #[test]
    fn each_call_stands_in_it_once_and_a_prompt_goes_to_every_model_first() {
        let grid = grid();
        let items: Vec<_> = grid.items().collect();
        assert_eq!((items.len() as u64, grid.len()), (24, 24));
        let all: HashSet<_> = items.iter().map(|item| (item.prompt, item.setting, item.model, item.repeat)).collect();
        assert_eq!(all.len(), 24);
        assert_eq!((items[0].model, items[1].model, items[1].prompt), (0, 1, 0));
        assert!(items[..12].iter().all(|item| item.prompt == 0));
    }

    #[test]
    fn a_setting_stands_before_the_prompt_and_bounds_the_price() {
        let grid = grid();
        let item = grid.items().find(|item| item.setting == 1).unwrap();
        let query = grid.query(&item).unwrap();
        let body: Value = serde_json::from_slice(&query.body).unwrap();
        assert_eq!(body["messages"][0], json!({"role": "system", "content": "be short"}));
        assert_eq!(body["messages"][1]["content"], "one");
        assert_eq!(query.demanded.output_tokens, Some(5));
    }

    #[test]
    fn what_cannot_be_asked_is_refused_before_anything_is() {
        let twice = Grid { prompts: vec![Prompt::asked("p", "one"); 2], ..grid() };
        assert!(matches!(twice.check(), Err(NotAGrid::Twice { what: "prompt", .. })));
        let none = Grid { models: Vec::new(), ..grid() };
        assert!(matches!(none.check(), Err(NotAGrid::Empty("model"))));
        let many = Grid { repeats: u32::MAX, ..grid() };
        assert!(matches!(many.check(), Err(NotAGrid::TooMany(_))));
        let mut unbounded = grid();
        unbounded.settings[0].fields.shift_remove("max_tokens");
        assert!(matches!(unbounded.check(), Err(NotAGrid::Setting { .. })));
        let mut streamed = grid();
        streamed.settings[0].fields.insert("stream".into(), true.into());
        assert!(matches!(streamed.check(), Err(NotAGrid::Setting { .. })));
        assert!(grid().check().is_ok());
    }
}

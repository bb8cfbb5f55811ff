//! The tables: every request field of every priced route. What is not here does not exist.

use super::Rule::{Own, Pass};
use super::shape::Need::{May, Must};
use super::shape::{Row, Shape};
use super::{Field, PROMPTS_MAX};

/// Items of an embeddings or moderations call.
const ITEMS_MAX: usize = 2_048;
const PREDICTIONS_MAX: usize = 256;
const MESSAGES_MAX: usize = 4_096;
const TOOLS_MAX: usize = 128;

pub(crate) const CHAT: &[Field] = &[
    ("model", Own),
    ("messages", Pass(MESSAGES)),
    ("max_tokens", Own),
    ("max_completion_tokens", Own),
    ("n", Own),
    ("stream", Own),
    ("stream_options", Own),
    ("logprobs", Own),
    ("top_logprobs", Own),
    ("temperature", Pass(Shape::Number)),
    ("top_p", Pass(Shape::Number)),
    ("stop", Pass(Shape::Stops)),
    ("seed", Pass(Shape::Integer)),
    ("presence_penalty", Pass(Shape::Number)),
    ("frequency_penalty", Pass(Shape::Number)),
    ("logit_bias", Pass(Shape::Numbers)),
    ("response_format", Pass(RESPONSE_FORMAT)),
    ("tools", Pass(TOOLS)),
    ("tool_choice", Pass(TOOL_CHOICE)),
    ("parallel_tool_calls", Pass(Shape::Flag)),
];

pub(crate) const COMPLETIONS: &[Field] = &[
    ("model", Own),
    ("prompt", Pass(Shape::Prompts(PROMPTS_MAX))),
    ("max_tokens", Own),
    ("n", Own),
    ("best_of", Own),
    ("stream", Own),
    ("stream_options", Own),
    ("logprobs", Own),
    ("echo", Own),
    ("temperature", Pass(Shape::Number)),
    ("top_p", Pass(Shape::Number)),
    ("stop", Pass(Shape::Stops)),
    ("seed", Pass(Shape::Integer)),
    ("presence_penalty", Pass(Shape::Number)),
    ("frequency_penalty", Pass(Shape::Number)),
    ("logit_bias", Pass(Shape::Numbers)),
];

pub(crate) const RESPONSES: &[Field] = &[
    ("model", Own),
    ("input", Pass(Shape::WordsOr(&Shape::List(MESSAGES_MAX, &ITEM)))),
    ("instructions", Pass(Shape::Words)),
    ("max_output_tokens", Own),
    ("stream", Own),
    ("previous_response_id", Own),
    ("conversation", Own),
    ("background", Own),
    ("temperature", Pass(Shape::Number)),
    ("top_p", Pass(Shape::Number)),
    ("text", Pass(Shape::Record(&[("format", May, FORMAT)]))),
    ("tools", Pass(Shape::List(TOOLS_MAX, &FLAT_TOOL))),
    ("tool_choice", Pass(Shape::WordOr(&["none", "auto", "required"], &FLAT_CHOICE))),
    ("parallel_tool_calls", Pass(Shape::Flag)),
];

/// An item of a conversation; one without a type is a message.
const ITEM: Shape = Shape::Tagged(
    "type",
    &[
        ("", MESSAGE),
        ("message", MESSAGE),
        (
            "function_call",
            &[
                ("type", Must, Shape::Word(&["function_call"])),
                ("call_id", Must, Shape::Name),
                ("name", Must, Shape::Name),
                ("arguments", Must, Shape::Words),
            ],
        ),
        (
            "function_call_output",
            &[
                ("type", Must, Shape::Word(&["function_call_output"])),
                ("call_id", Must, Shape::Name),
                ("output", Must, Shape::Content),
            ],
        ),
    ],
);

const MESSAGE: &[Row] = &[
    ("type", May, Shape::Word(&["message"])),
    ("role", Must, Shape::Word(&["system", "developer", "user", "assistant"])),
    ("content", Must, Shape::Content),
];

const FLAT_TOOL: Shape = Shape::Record(&[
    ("type", Must, FUNCTION),
    ("name", Must, Shape::Name),
    ("description", May, Shape::Words),
    ("parameters", May, Shape::Schema),
    ("strict", May, Shape::Flag),
]);

const FLAT_CHOICE: Shape = Shape::Record(&[("type", Must, FUNCTION), ("name", Must, Shape::Name)]);

const FORMAT: Shape = Shape::Tagged(
    "type",
    &[
        ("text", &[("type", Must, Shape::Word(&["text"]))]),
        ("json_object", &[("type", Must, Shape::Word(&["json_object"]))]),
        (
            "json_schema",
            &[
                ("type", Must, Shape::Word(&["json_schema"])),
                ("name", Must, Shape::Name),
                ("description", May, Shape::Words),
                ("schema", Must, Shape::Schema),
                ("strict", May, Shape::Flag),
            ],
        ),
    ],
);

pub(crate) const EMBEDDINGS: &[Field] = &[
    ("model", Own),
    ("input", Pass(Shape::Prompts(ITEMS_MAX))),
    ("encoding_format", Own),
    ("dimensions", Pass(Shape::Count)),
];

pub(crate) const TOKENIZE: &[Field] = &[
    ("model", Own),
    ("prompt", Pass(Shape::Words)),
    ("messages", Pass(MESSAGES)),
    ("add_special_tokens", Pass(Shape::Flag)),
    ("add_generation_prompt", Pass(Shape::Flag)),
    ("return_token_strs", Pass(Shape::Flag)),
];

pub(crate) const DETOKENIZE: &[Field] = &[("model", Own), ("tokens", Pass(Shape::List(1 << 20, &Shape::Count)))];

pub(crate) const TOKENIZER_INFO: &[Field] = &[("model", Own)];

pub(crate) const PREDICT: &[Field] = &[("model", Own), ("inputs", Pass(Shape::Items(PREDICTIONS_MAX)))];

/// What a message may be, by its role.
const MESSAGES: Shape = Shape::List(
    MESSAGES_MAX,
    &Shape::Tagged(
        "role",
        &[("system", SAID), ("developer", SAID), ("user", SAID), ("assistant", ANSWERED), ("tool", RESULT)],
    ),
);

const ROLE: Shape = Shape::Word(&["system", "developer", "user", "assistant", "tool"]);

const SAID: &[Row] = &[("role", Must, ROLE), ("content", Must, Shape::Content), ("name", May, Shape::Name)];

const ANSWERED: &[Row] = &[
    ("role", Must, ROLE),
    ("content", May, Shape::Content),
    ("name", May, Shape::Name),
    ("tool_calls", May, Shape::List(TOOLS_MAX, &Shape::Record(TOOL_CALL))),
];

const RESULT: &[Row] = &[("role", Must, ROLE), ("content", Must, Shape::Content), ("tool_call_id", Must, Shape::Name)];

const TOOL_CALL: &[Row] = &[
    ("id", Must, Shape::Name),
    ("type", Must, FUNCTION),
    ("function", Must, Shape::Record(&[("name", Must, Shape::Name), ("arguments", Must, Shape::Words)])),
];

const FUNCTION: Shape = Shape::Word(&["function"]);

const TOOLS: Shape = Shape::List(
    TOOLS_MAX,
    &Shape::Record(&[
        ("type", Must, FUNCTION),
        (
            "function",
            Must,
            Shape::Record(&[
                ("name", Must, Shape::Name),
                ("description", May, Shape::Words),
                ("parameters", May, Shape::Schema),
                ("strict", May, Shape::Flag),
            ]),
        ),
    ]),
);

const TOOL_CHOICE: Shape = Shape::WordOr(
    &["none", "auto", "required"],
    &Shape::Record(&[("type", Must, FUNCTION), ("function", Must, Shape::Record(&[("name", Must, Shape::Name)]))]),
);

const RESPONSE_FORMAT: Shape = Shape::Tagged(
    "type",
    &[
        ("text", &[("type", Must, Shape::Word(&["text"]))]),
        ("json_object", &[("type", Must, Shape::Word(&["json_object"]))]),
        (
            "json_schema",
            &[
                ("type", Must, Shape::Word(&["json_schema"])),
                (
                    "json_schema",
                    Must,
                    Shape::Record(&[
                        ("name", Must, Shape::Name),
                        ("description", May, Shape::Words),
                        ("schema", May, Shape::Schema),
                        ("strict", May, Shape::Flag),
                    ]),
                ),
            ],
        ),
    ],
);

/// Moderations take what a message's content may be, or several texts.
pub(crate) const MODERATIONS: &[Field] = &[("model", Own), ("input", Pass(Shape::Texts(ITEMS_MAX)))];

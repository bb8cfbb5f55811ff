//! The registry of ops: one thing a caller can ask of a model (spec/03-manifest.md §5).

use crate::cbor::enumeration;

enumeration! {
    /// Default deny: an op that is not here, or not in a manifest and policy, does not exist. Numbers of ops that no
    /// node serves yet are reserved.
    pub enum Op: "op" {
        Chat = 1 "chat",
        Completions = 2 "completions",
        Embeddings = 3 "embeddings",
        /// Log-probabilities of the sampled tokens and their alternatives, with `chat` or `completions`.
        Logprobs = 4 "logprobs",
        /// Log-probabilities of the prompt's own tokens (`echo`).
        PromptLogprobs = 5 "prompt_logprobs",
        Predict = 6 "predict",
        Tokenize = 7 "tokenize",
        Moderations = 8 "moderations",
        Responses = 9 "responses",
        Batch = 10 "batch",
        FineTune = 11 "fine_tune",
        Activations = 12 "activations",
        Patch = 13 "patch",
        Gradients = 14 "gradients",
        Compute = 15 "compute",
    }
}

impl Op {
    /// What can be asked as part of a batch (spec/03-manifest.md F-13), as OpenAI's batches can.
    pub const BATCHED: [Self; 4] = [Self::Chat, Self::Completions, Self::Responses, Self::Embeddings];

    /// Whether a call of this op can be part of a batch.
    pub fn is_batched(self) -> bool {
        Self::BATCHED.contains(&self)
    }
}

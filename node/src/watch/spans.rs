//! A span for each call, to an OpenTelemetry collector: the semantic conventions for generative AI, OTLP over HTTP.
//!
//! Only where the owner names a collector. Spans hold what the access log holds, and neither prompts nor answers, which the
//! conventions leave to choice.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use comity_gateway::Call;
use comity_wire::{Meter, Op};
use opentelemetry::trace::{Span as _, SpanKind, Status, Tracer as _, TracerProvider as _};
use opentelemetry::{Array, Context, KeyValue, Value};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider};

use crate::failure::{Failure, While as _};

/// Spans that wait; one more is dropped by the exporter, which says so in the log.
const SPANS_MAX: usize = 4_096;
const EXPORT_TIME_MAX: Duration = Duration::from_secs(10);
const CLOSE_TIME_MAX: Duration = Duration::from_secs(3);
/// What a collector may answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// An exporter that runs.
pub struct Spans {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Spans {
    /// Must be called within the runtime that sends.
    ///
    /// # Errors
    /// [`Failure`] where the address is none.
    pub fn start(url: &str) -> Result<Self, Failure> {
        let wrong =
            || Failure::new(format!("--otlp {url}: not an http address")).hint("http://127.0.0.1:4318/v1/traces");
        let address: http::Uri = url.parse().map_err(|_| wrong())?;
        if address.host().is_none() || !matches!(address.scheme_str(), Some("http" | "https")) {
            return Err(wrong());
        }
        let client = reqwest::Client::builder().no_proxy().timeout(EXPORT_TIME_MAX).build();
        let client = Sender { client: client.while_("no HTTP client")?, runtime: tokio::runtime::Handle::current() };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(url)
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(EXPORT_TIME_MAX)
            .build()
            .while_("the exporter of spans does not start")?;
        let config = BatchConfigBuilder::default().with_max_queue_size(SPANS_MAX).build();
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
        let resource = Resource::builder_empty()
            .with_service_name("comity")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource).build();
        let tracer = provider.tracer("comity-gateway");
        Ok(Self { provider, tracer })
    }

    pub(super) fn call(&self, call: &Call) {
        let ended = SystemTime::now();
        let began = ended.checked_sub(call.took).unwrap_or(ended);
        let builder = self
            .tracer
            .span_builder(name(call))
            .with_kind(SpanKind::Server)
            .with_start_time(began)
            .with_attributes(attributes(call));
        // No parent: a caller's own trace ids would be a header that steers what is kept here.
        let mut span = self.tracer.build_with_context(builder, &Context::new());
        if let Some(code) = call.code {
            span.set_status(Status::error(code));
        }
        span.end_with_timestamp(ended);
    }

    /// Sends what waits.
    pub(super) fn close(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(CLOSE_TIME_MAX) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// `gen_ai.operation.name`: the conventions' own word where they have one.
pub(super) fn operation(op: Op) -> &'static str {
    match op {
        Op::Completions => "text_completion",
        Op::Responses => "chat",
        other => other.as_str(),
    }
}

fn name(call: &Call) -> String {
    match (call.op, &call.model) {
        (Some(op), Some(model)) => format!("{} {model}", operation(op)),
        _ => format!("POST {}", call.route),
    }
}

fn attributes(call: &Call) -> Vec<KeyValue> {
    let mut all = vec![
        KeyValue::new("http.request.method", "POST"),
        KeyValue::new("http.route", call.route),
        KeyValue::new("http.response.status_code", i64::from(call.status)),
        KeyValue::new("gen_ai.provider.name", "comity"),
    ];
    let mut add = |name: &'static str, value: Value| all.push(KeyValue::new(name, value));
    if let Some(op) = call.op {
        add("gen_ai.operation.name", operation(op).into());
    }
    if let Some(request) = &call.request {
        add("comity.request_id", request.clone().into());
    }
    if let Some(model) = &call.model {
        add("gen_ai.request.model", model.to_string().into());
    }
    if let Some(code) = call.code {
        add("error.type", code.into());
    }
    if let Some(subject) = &call.subject {
        add("comity.subject", subject.clone().into());
    }
    if let Some(first) = call.first {
        add("comity.first_ms", (first.as_secs_f64() * 1e3).into());
    }
    if let Some(charge) = &call.charge {
        let count = |meter| i64::try_from(charge.meters.get(meter)).unwrap_or(i64::MAX);
        add("gen_ai.usage.input_tokens", count(Meter::InputTokens).into());
        add("gen_ai.usage.output_tokens", count(Meter::OutputTokens).into());
        add("gen_ai.response.finish_reasons", Value::Array(Array::String(vec![charge.ended.as_str().into()])));
        add("comity.charge_ucr", charge.charge.ucr().into());
        add("comity.basis", charge.basis.as_str().into());
    }
    all
}

/// The exporter waits on a thread of its own, which has no runtime: the request runs on ours.
#[derive(Debug)]
struct Sender {
    client: reqwest::Client,
    runtime: tokio::runtime::Handle,
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move { send(&client, request).await });
        sent.await?
    }
}

async fn send(client: &reqwest::Client, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
    let mut response = client.execute(request.try_into()?).await?;
    let mut answer = http::Response::builder().status(response.status());
    if let Some(headers) = answer.headers_mut() {
        headers.extend(response.headers().clone());
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err("the collector says more than 1 MiB".into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(answer.body(body.into())?)
}

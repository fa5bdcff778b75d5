//! Traces for a collector of OpenTelemetry, where the build has them (`--features otlp`).
//!
//! **Invariant:** nothing waits for the collector: what it does not take in time is dropped, and the memory for what waits is
//! bounded (by the batch processor: 2,048 spans unless `OTEL_BSP_MAX_QUEUE_SIZE` says otherwise).
//!
//! What is *not* here: the spans themselves, which are in `gateway::traces`.

use tracing::Subscriber;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

/// A layer that takes spans, and what has to be held until the end.
pub(crate) type Collected<S> = (Box<dyn Layer<S> + Send + Sync>, Traces);

#[cfg(feature = "otlp")]
mod otlp {
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _};
    use opentelemetry_sdk::Resource;
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use super::{Collected, Layer, LookupSpan, Subscriber};

    /// Sends what is still there when it is dropped, for at most five seconds.
    #[derive(Debug)]
    pub(crate) struct Traces(SdkTracerProvider);

    impl Drop for Traces {
        fn drop(&mut self) {
            if let Err(error) = self.0.shutdown() {
                tracing::warn!(%error, "not all traces were sent");
            }
        }
    }

    /// Sends spans to the collector at `endpoint`, such as `http://127.0.0.1:4318`, as OTLP over HTTP. Names, sampling and
    /// batches are set by the variables that OpenTelemetry has for them (`OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER`).
    pub(crate) fn collect<S>(endpoint: &str) -> Result<Collected<S>, String>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .build()
            .map_err(|error| error.to_string())?;
        let mut resource = Resource::builder();
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("tickerplant");
        }
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("tickerplant"));
        Ok((layer.boxed(), Traces(provider)))
    }
}

#[cfg(feature = "otlp")]
pub(crate) use otlp::{Traces, collect};

/// Of a build without them there are none.
#[cfg(not(feature = "otlp"))]
#[derive(Debug)]
pub(crate) enum Traces {}

/// What `otlp_endpoint` was checked for already.
#[cfg(not(feature = "otlp"))]
pub(crate) fn collect<S: Subscriber + for<'a> LookupSpan<'a>>(_endpoint: &str) -> Result<Collected<S>, String> {
    Err(UNSUPPORTED.to_owned())
}

#[cfg(not(feature = "otlp"))]
const UNSUPPORTED: &str = "this build sends no traces; one made with `cargo build --features otlp` does";

/// What is wrong with the address of a collector.
pub(crate) fn check(endpoint: &str) -> Result<(), String> {
    #[cfg(not(feature = "otlp"))]
    return Err(format!("{endpoint:?}: {UNSUPPORTED}"));
    #[cfg(feature = "otlp")]
    if endpoint.strip_prefix("http://").is_some_and(|rest| !rest.trim_matches('/').is_empty()) {
        Ok(())
    } else {
        Err(format!(
            "{endpoint:?} is no address of a collector, which is like http://127.0.0.1:4318 (OTLP over HTTP, without TLS)"
        ))
    }
}

#[cfg(all(test, feature = "otlp"))]
mod tests {
    use super::check;

    #[test]
    fn the_address_of_a_collector_is_checked_at_the_start() {
        for good in ["http://127.0.0.1:4318", "http://collector/", "http://[::1]:4318/tenant"] {
            assert_eq!(check(good), Ok(()));
        }
        for bad in ["", "127.0.0.1:4318", "https://collector", "http://", "grpc://127.0.0.1:4317"] {
            assert!(check(bad).unwrap_err().contains("like http://127.0.0.1:4318"), "{bad}");
        }
    }
}

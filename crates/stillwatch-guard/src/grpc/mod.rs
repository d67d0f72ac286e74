//! Envoy's own protocols: `ext_authz` (`envoy.service.auth.v3.Authorization`) and
//! `ext_proc` (`envoy.service.ext_proc.v3.ExternalProcessor`) over gRPC.
//!
//! They have a listener of their own, which speaks HTTP/2 without TLS and nothing else.
//! The administration's could tell the two versions of HTTP apart by a connection's first
//! bytes, but would have to wait for these without a limit in time.

mod authorization;
mod message;
mod processor;

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use envoy_types::ext_authz::v3::pb::AuthorizationServer;
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_server::ExternalProcessorServer;
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::codegen::Service;

use crate::admin::Admin;
use crate::advise::KEY;
use crate::gateway::BODY_STEP_KIB;

use authorization::Authorizer;
use processor::Processor;

/// How much longer than a body a message about it may be, in bytes: its headers.
const MESSAGE_BYTES_MORE: usize = 1 << 20;

/// Answers one call.
pub async fn answer(admin: Admin, request: Request<Incoming>) -> Response<tonic::body::Body> {
    let key = request.headers().get(KEY).map(HeaderValue::as_bytes);
    if !key.is_some_and(|key| admin.is_key(key)) {
        let what = "send the administration's key as metadata: `stillwatch-key`";
        return Status::unauthenticated(what).into_http();
    }
    let guard = admin.guard;
    let longest = guard.live.now().table.policy().limits.body_bytes_max + MESSAGE_BYTES_MORE;
    let held = Held { bodies: Arc::clone(&guard.bodies), so_far: Arc::default() };
    let mut request = request.map(|body| Counted { body, held: held.clone() });
    request.extensions_mut().insert(held);
    let service = request.uri().path().rsplit_once('/').map(|(service, _)| service);
    let answered = match service {
        Some("/envoy.service.auth.v3.Authorization") => {
            let service = AuthorizationServer::new(Authorizer { guard });
            service.max_decoding_message_size(longest).call(request).await
        }
        Some("/envoy.service.ext_proc.v3.ExternalProcessor") => {
            let service = ExternalProcessorServer::new(Processor { guard });
            service.max_decoding_message_size(longest).call(request).await
        }
        _ => return Status::unimplemented("ext_authz and ext_proc are served here").into_http(),
    };
    answered.unwrap_or_else(|never| match never {})
}

/// What a call holds in memory of the message that is arriving. It counts against what all
/// bodies together may hold.
#[derive(Clone, Debug)]
struct Held {
    bodies: Arc<Semaphore>,
    so_far: Arc<Mutex<SoFar>>,
}

#[derive(Debug, Default)]
struct SoFar {
    bytes: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl Held {
    /// So many bytes more have come; false where there is no room for them.
    fn add(&self, bytes: usize) -> bool {
        let mut so_far = self.so_far.lock().unwrap_or_else(PoisonError::into_inner);
        so_far.bytes += bytes;
        loop {
            // The first step is everybody's, as for clients.
            let kib = so_far.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            if so_far.bytes >> 10 < kib + BODY_STEP_KIB as usize {
                return true;
            }
            let Ok(more) = Arc::clone(&self.bodies).try_acquire_many_owned(BODY_STEP_KIB) else {
                return false;
            };
            match &mut so_far.permit {
                Some(permit) => permit.merge(more),
                None => so_far.permit = Some(more),
            }
        }
    }

    /// The message is dealt with.
    fn release(&self) {
        *self.so_far.lock().unwrap_or_else(PoisonError::into_inner) = SoFar::default();
    }
}

/// A call's bytes, counted as they come.
#[derive(Debug)]
struct Counted {
    body: Incoming,
    held: Held,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        polled.map(|frame| {
            frame.map(|frame| {
                let frame = frame.map_err(|_| Status::cancelled("the call broke off"))?;
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                if self.held.add(bytes) {
                    Ok(frame)
                } else {
                    Err(Status::resource_exhausted("too many bodies are held already"))
                }
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

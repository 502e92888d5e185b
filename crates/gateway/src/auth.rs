//! Who calls: the token is verified here, and hosts are given signed claims in its place.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use conclave_auth::{CLAIMS_HEADER, Claims, KeyLookup, TokenError, TokenKey};
use conclave_cluster::{ClusterTable, TableWatch};
use conclave_proto::status::ApiError;
use conclave_types::{Clock, ProjectId};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tonic::body::Body;
use tower::Service;

use crate::wire::{self, Onward};

/// How long a call waits for the keys when the gateway does not know any yet.
const KEYS_WITHIN: Duration = Duration::from_secs(10);

/// Checks tokens against the keys of the cluster's table.
pub struct Authority {
    table: TableWatch,
    clock: Arc<dyn Clock>,
}

/// A verified caller.
#[derive(Clone)]
pub struct Caller {
    pub claims: Arc<Claims>,
    voucher: Voucher,
}

/// Signs claims for hosts.
#[derive(Clone)]
pub struct Voucher {
    secret: [u8; 32],
    claims: Arc<Claims>,
    clock: Arc<dyn Clock>,
}

impl Authority {
    pub fn new(table: TableWatch, clock: Arc<dyn Clock>) -> Self {
        Authority { table, clock }
    }

    /// Waits a little for a gateway that has just started to get the cluster's keys.
    async fn keys_known(&self) {
        let mut table = self.table.clone();
        let _ = tokio::time::timeout(KEYS_WITHIN, table.wait_for(Option::is_some)).await;
    }

    /// Verifies `authorization: Bearer <token>`.
    pub fn admit(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        let table = self.table.borrow().clone().ok_or_else(ApiError::no_leader)?;
        let claims = conclave_auth::verify(bearer(headers)?, &Keys(&table), self.clock.wall())?;
        let secret = table.secret.bytes().try_into().map_err(|_| ApiError::internal("cluster secret"))?;
        let claims = Arc::new(claims);
        Ok(Caller { voucher: Voucher { secret, claims: claims.clone(), clock: self.clock.clone() }, claims })
    }
}

impl Caller {
    pub fn project(&self) -> &ProjectId {
        &self.claims.project
    }

    /// What this caller's requests carry to hosts.
    pub fn onward(&self, headers: &HeaderMap) -> Onward {
        Onward::new(headers, self.voucher.clone())
    }
}

impl Voucher {
    /// The header for a request that goes out now. Hosts take it for a minute, so each attempt is signed anew.
    pub fn header(&self) -> (HeaderName, HeaderValue) {
        let text = conclave_auth::claims_header_value(&self.secret, &self.claims, self.clock.wall());
        (HeaderName::from_static(CLAIMS_HEADER), HeaderValue::try_from(text).expect("base64 is a header value"))
    }
}

struct Keys<'a>(&'a ClusterTable);

impl KeyLookup for Keys<'_> {
    fn key(&self, kid: &str) -> Option<TokenKey> {
        let key = self.0.token_key(&kid.parse().ok()?)?;
        Some(TokenKey { kid: kid.to_owned(), project: key.project.clone(), secret: key.secret.bytes().into() })
    }
}

/// The token; empty if there is none.
fn bearer(headers: &HeaderMap) -> Result<&str, ApiError> {
    let Some(value) = headers.get(AUTHORIZATION) else { return Ok("") };
    let text = value.to_str().map_err(|_| TokenError::Invalid)?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(TokenError::Invalid.into()),
    }
}

/// The layer that lets verified callers in, as the [`Caller`] in the request's extensions.
#[derive(Clone)]
pub struct Admit<S> {
    authority: Arc<Authority>,
    inner: S,
}

impl<S> Admit<S> {
    pub fn new(authority: Arc<Authority>, inner: S) -> Self {
        Admit { authority, inner }
    }
}

type Admitted<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

impl<S> Service<Request<Body>> for Admit<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Admitted<S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let authority = self.authority.clone();
        // The one that is ready; its copy is not yet.
        let copy = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, copy);
        Box::pin(async move {
            authority.keys_known().await;
            match authority.admit(request.headers()) {
                Ok(caller) => {
                    request.extensions_mut().insert(caller);
                    inner.call(request).await
                }
                Err(error) => Ok(wire::refused(&error.into())),
            }
        })
    }
}

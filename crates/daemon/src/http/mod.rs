//! HTTP without routes: requests as handlers see them, answers, the connection and hijacking.

pub mod answer;
pub mod call;
pub mod connection;
pub mod drain;
pub mod head;
pub mod hijack;
pub mod io;
pub mod query;
pub mod reframe;
pub mod router;
pub mod websocket;

pub use answer::{Answer, Failure, Outcome};
pub use call::Call;
pub use query::Query;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;

/// Why a body broke off.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body of a request or an answer.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The longest JSON body that is read; the largest real create requests are a hundredth of it.
pub const JSON_BODY_MAX: usize = 8 << 20;

//! The wire seen from outside: real sockets, a foreign signer, arbitrary bytes.

mod codecs;
mod dev;
mod front;
mod presigned;
mod properties;
mod refusals;
mod signatures;
mod slow;
mod support;

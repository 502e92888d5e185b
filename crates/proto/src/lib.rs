//! The wire: generated code for `proto/`, and the conversions between wire and domain.
//!
//! Everything that crosses a process boundary or lands in a log is encoded and decoded here, and every status is made
//! here ([`status`]). This crate must not know sockets, storage or what a command does.
//!
//! Start with `proto/conclave/v1/`, then [`log`] (the payload of a log entry) and [`envelope`] (what a gateway reads of
//! a frame that it forwards).

pub mod codec;
pub mod envelope;
pub mod events;
pub mod items;
pub mod log;
pub mod messages;
pub mod page;
pub mod resource;
pub mod status;
pub mod time;
pub mod wire;

#[cfg(test)]
mod descriptor;

/// The public API.
pub mod v1 {
    tonic::include_proto!("conclave.v1");
}

/// Node to node and on disk.
pub mod internal {
    pub mod v1 {
        tonic::include_proto!("conclave.internal.v1");
    }
}

/// The public error model, as every gRPC library knows it.
pub mod google {
    pub mod rpc {
        pub use tonic_types::pb::Status;
    }
}

/// Descriptors of the public package and all it imports, for reflection. An encoded `FileDescriptorSet`.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/public.binpb"));

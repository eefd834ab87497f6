//! A client with one connection: a request goes out, its response is waited for.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use weir_wire::Request;
use weir_wire::frame::encode_request;

use super::ProbeError;

/// The greatest response that is read. A fetch of the probe's own few messages is far below it.
const RESPONSE_BYTES_MAX: usize = 64 << 20;

/// One connection to a broker.
#[derive(Debug)]
pub(super) struct Client {
    stream: TcpStream,
    address: String,
    correlation_id: i32,
}

impl Client {
    /// Connects to the first of the name's addresses that answers.
    pub(super) fn connect(address: &str, deadline: Instant) -> Result<Self, ProbeError> {
        let unreachable = |reason: io::Error| ProbeError::Unreachable {
            address: address.to_owned(),
            reason,
        };
        let mut reason = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for socket in address.to_socket_addrs().map_err(unreachable)? {
            let connected = TcpStream::connect_timeout(&socket, left(deadline))
                .and_then(|stream| stream.set_nodelay(true).map(|()| stream));
            match connected {
                Ok(stream) => {
                    return Ok(Self {
                        stream,
                        address: address.to_owned(),
                        correlation_id: 0,
                    });
                }
                Err(error) => reason = error,
            }
        }
        Err(unreachable(reason))
    }

    /// Sends a request and waits for its response, of which the body is returned.
    pub(super) fn call<Q: Request>(
        &mut self,
        version: i16,
        request: &Q,
        deadline: Instant,
    ) -> Result<Bytes, ProbeError> {
        self.correlation_id += 1;
        let frame = encode_request(version, self.correlation_id, Some("weir-probe"), request)
            .map_err(|error| ProbeError::Protocol(error.to_string()))?
            .try_into_bytes()
            .map_err(|_| ProbeError::Protocol("a request holds no files".into()))?;
        let mut response =
            self.exchange(&frame, deadline)
                .map_err(|reason| ProbeError::Unreachable {
                    address: self.address.clone(),
                    reason,
                })?;
        let short = || ProbeError::Protocol("the response is shorter than its header".into());
        let correlation_id = response.try_get_i32().map_err(|_| short())?;
        if correlation_id != self.correlation_id {
            return Err(ProbeError::Protocol(format!(
                "the response to request {correlation_id} came instead of that to {}",
                self.correlation_id
            )));
        }
        if Q::KEY.response_header_version(version) >= 1 {
            // Tagged fields; no broker sends any.
            response.try_get_u8().map_err(|_| short())?;
        }
        Ok(response)
    }

    fn exchange(&mut self, frame: &[u8], deadline: Instant) -> io::Result<Bytes> {
        self.stream.set_write_timeout(Some(left(deadline)))?;
        self.stream.write_all(frame)?;
        self.stream.set_read_timeout(Some(left(deadline)))?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > RESPONSE_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a response of {length} bytes; at most {RESPONSE_BYTES_MAX} are read"),
            ));
        }
        let mut response = vec![0; length];
        self.stream.read_exact(&mut response)?;
        Ok(response.into())
    }
}

/// What is left until the deadline; never zero, which sockets take for "for ever".
fn left(deadline: Instant) -> Duration {
    deadline
        .saturating_duration_since(Instant::now())
        .max(Duration::from_millis(1))
}

//! Frames on a stream: an unsigned varint length, then that many bytes. The stream need not be half-closed to end one,
//! and nobody allocates for a length that is over the cap.

use std::io;

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;

/// Caps for one protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Framed {
    pub(crate) request_max: usize,
    pub(crate) response_max: usize,
}

/// Bytes are read in steps of this size, so that a claimed length costs nothing before it is sent.
const STEP: usize = 64 * 1024;

impl Codec for Framed {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, self.request_max).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, self.response_max).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &request, self.request_max).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, response: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &response, self.response_max).await
    }
}

async fn read<T: AsyncRead + Unpin + Send>(io: &mut T, max: usize) -> io::Result<Vec<u8>> {
    let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut length = 0_usize;
    for shift in (0..).step_by(7) {
        let mut byte = [0];
        io.read_exact(&mut byte).await?;
        // Four groups of seven bits hold every length we take.
        if shift > 21 {
            return Err(invalid("frame length is too long"));
        }
        length |= usize::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            if byte[0] == 0 && shift > 0 {
                return Err(invalid("frame length is not in its shortest form"));
            }
            break;
        }
    }
    if length > max {
        return Err(invalid("frame is larger than this protocol allows"));
    }
    let mut frame = Vec::new();
    while frame.len() < length {
        let start = frame.len();
        frame.resize(length.min(start + STEP), 0);
        io.read_exact(&mut frame[start..]).await?;
    }
    Ok(frame)
}

async fn write<T: AsyncWrite + Unpin + Send>(io: &mut T, frame: &[u8], max: usize) -> io::Result<()> {
    if frame.len() > max {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "frame is larger than this protocol allows"));
    }
    let mut prefix = Vec::with_capacity(4);
    let mut rest = frame.len();
    while rest >= 0x80 {
        prefix.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    prefix.push(rest as u8);
    io.write_all(&prefix).await?;
    io.write_all(frame).await?;
    io.close().await
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::io::Cursor;

    use super::*;

    #[test]
    fn frames_come_back_and_large_ones_are_refused_before_they_are_read() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 200_000] {
            let frame = vec![7; length];
            let mut wire = Cursor::new(Vec::new());
            block_on(write(&mut wire, &frame, 1 << 20)).unwrap();
            let bytes = wire.into_inner();
            assert_eq!(block_on(read(&mut Cursor::new(&bytes), 1 << 20)).unwrap(), frame);
            if length > 0 {
                assert!(block_on(read(&mut Cursor::new(&bytes), length - 1)).is_err());
                assert!(block_on(read(&mut Cursor::new(&bytes[..bytes.len() - 1]), 1 << 20)).is_err());
            }
        }
        for bad in [&[0x80, 0x00][..], &[0xff, 0xff, 0xff, 0xff, 0x01]] {
            assert!(block_on(read(&mut Cursor::new(bad), usize::MAX)).is_err());
        }
    }
}

//! What stands between divvy and an endpoint that is elsewhere: TLS, with a certificate of an authority that no machine knows,
//! and a proxy that tunnels. Both on loopback, before any plain server.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    },
};

/// The certificate (PEM) of the authority that signed [`Front`]'s.
pub const AUTHORITY: &str = include_str!("tls/authority.pem");
/// That of one which signed nothing.
pub const STRANGER: &str = include_str!("tls/stranger.pem");
const CERTIFICATE: &[u8] = include_bytes!("tls/server.der");
const KEY: &[u8] = include_bytes!("tls/server.key.der");

/// TLS before a plain server, as `localhost`. Serves until it is dropped.
pub struct Front {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

impl Drop for Front {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Front {
    /// # Errors
    /// When no port is free.
    pub async fn start(behind: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, connections) = (listener.local_addr()?, Arc::new(AtomicUsize::new(0)));
        let (tls, count) = (acceptor(), Arc::clone(&connections));
        let server = tokio::spawn(async move {
            while let Ok((plain, _)) = listener.accept().await {
                count.fetch_add(1, Relaxed);
                let tls = tls.clone();
                tokio::spawn(async move {
                    let mut inside = tls.accept(plain).await?;
                    copy_bidirectional(&mut inside, &mut TcpStream::connect(behind).await?).await
                });
            }
        });
        Ok(Self { address, connections, server })
    }

    /// `https://localhost:PORT/v1`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://localhost:{}/v1", self.address.port())
    }

    /// Connections that came in so far, also those that broke off at the certificate.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }
}

fn acceptor() -> TlsAcceptor {
    let (certificate, key) = (CertificateDer::from_slice(CERTIFICATE), PrivatePkcs8KeyDer::from(KEY));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the usual versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .expect("certificate and key belong together");
    TlsAcceptor::from(Arc::new(config))
}

/// A proxy that does nothing but tunnel (`CONNECT`). Serves until it is dropped.
pub struct Proxy {
    address: SocketAddr,
    tunnels: Arc<Mutex<Vec<String>>>,
    server: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Proxy {
    /// # Errors
    /// When no port is free.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, tunnels) = (listener.local_addr()?, Arc::new(Mutex::default()));
        let asked = Arc::clone(&tunnels);
        let server = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(tunnel(client, Arc::clone(&asked)));
            }
        });
        Ok(Self { address, tunnels, server })
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where each tunnel leads, `host:port`.
    #[must_use]
    pub fn tunnels(&self) -> Vec<String> {
        self.tunnels.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn tunnel(mut client: TcpStream, asked: Arc<Mutex<Vec<String>>>) -> io::Result<()> {
    let head = head(&mut client).await?;
    let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split_whitespace().next());
    let Some(target) = target else { return client.write_all(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n").await };
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(target.to_owned());
    let mut there = TcpStream::connect(target).await?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut there).await.map(drop)
}

/// Up to the empty line: byte by byte, since what follows is the tunnel's.
async fn head(client: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

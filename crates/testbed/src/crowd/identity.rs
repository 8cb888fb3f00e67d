//! A machine's key in the handshake: raw public keys (RFC 7250) on both sides, as `iroh` has them.

use noq::crypto::rustls::QuicClientConfig;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        AlwaysResolvesClientRawPublicKeys, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime, alg_id::ED25519},
    sign::{CertifiedKey, public_key_to_spki},
    version::TLS13,
};
use std::sync::{Arc, OnceLock};
use transport::{IDLE_TIME_MAX, KEEP_ALIVE, NodeId};
use trust::MachineKey;

/// What stands before the seed of an Ed25519 key in PKCS #8 (RFC 8410, section 7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// `iroh`'s own bounds (`socket.rs` of 1.4.1); both sides have to know of paths for a connection to have them.
const PATHS_MAX: u32 = 8;
const REMOTE_ADDRESSES_MAX: u8 = 32;

/// One machine in the handshake.
pub(super) struct Identity(Arc<CertifiedKey>);

impl Identity {
    pub(super) fn new(key: &MachineKey) -> Self {
        let pkcs8 = PrivatePkcs8KeyDer::from([&PKCS8_PREFIX[..], &*key.seed()].concat());
        let signing = rustls::crypto::ring::sign::any_eddsa_type(&pkcs8).expect("it is the form of RFC 8410");
        Self(Arc::new(CertifiedKey::new(vec![raw(key.id())], signing)))
    }

    /// For a connection to this machine.
    pub(super) fn dial(&self, remote: NodeId, alpn: &[u8]) -> noq::ClientConfig {
        let mut tls = ClientConfig::builder_with_provider(Arc::clone(provider()))
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Exactly(remote)))
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::clone(&self.0))));
        tls.alpn_protocols = vec![alpn.to_vec()];
        tls.enable_sni = false;
        // A cache for each of ten thousand, of tickets that no restarted orchestrator takes.
        tls.resumption = Resumption::disabled();
        let tls = QuicClientConfig::try_from(tls).expect("the provider has the cipher of initial packets");
        let mut config = noq::ClientConfig::new(Arc::new(tls));
        config.transport_config(Arc::clone(settings()));
        config
    }
}

fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(ring::default_provider()))
}

/// As `Transport::connect_to_say_little` has `iroh` set them, as far as they show on the other side of a connection.
fn settings() -> &'static Arc<noq::TransportConfig> {
    static SETTINGS: OnceLock<Arc<noq::TransportConfig>> = OnceLock::new();
    SETTINGS.get_or_init(|| {
        let mut settings = noq::TransportConfig::default();
        let mut acknowledged = noq::AckFrequencyConfig::default();
        acknowledged.ack_eliciting_threshold(0u32.into());
        settings
            .max_concurrent_uni_streams(0u32.into())
            .ack_frequency_config(Some(acknowledged))
            .keep_alive_interval(Some(KEEP_ALIVE))
            .max_idle_timeout(Some(IDLE_TIME_MAX.try_into().expect("15 s fit")))
            .default_path_keep_alive_interval(Some(KEEP_ALIVE))
            .default_path_max_idle_timeout(Some(IDLE_TIME_MAX))
            .max_concurrent_multipath_paths(PATHS_MAX)
            .max_remote_nat_traversal_addresses(REMOTE_ADDRESSES_MAX)
            .server_handshake_migration(true)
            .datagram_receive_buffer_size(None);
        Arc::new(settings)
    })
}

fn raw(machine: NodeId) -> CertificateDer<'static> {
    CertificateDer::from(public_key_to_spki(&ED25519, machine.as_bytes()).to_vec())
}

/// Believes that the other side is this machine if it proves it, and nothing else.
#[derive(Debug)]
struct Exactly(NodeId);

impl ServerCertVerifier for Exactly {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match *shown == raw(self.0) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _shown: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 is spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(shown.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signed, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

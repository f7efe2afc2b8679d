//! What the SSH library asks us while a connection lives.

use super::endpoint::Endpoint;
use super::error::{ShownKey, SshError};
use super::fingerprint::fingerprint;
use super::known_hosts::{Decision, KnownHosts};
use russh::client::{ChannelOpenHandle, DisconnectReason, Handler, Msg, Session};
use russh::keys::{PublicKey, PublicKeyOrCertificate};
use russh::{Channel, Names, cipher};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::DropGuard;

/// Fewest bits of an RSA key that proves anything.
const LEAST_RSA_BITS: u32 = 2048;

/// What became of a connection, as the handler learned it.
#[derive(Debug, Default)]
pub(super) struct Notes {
    refusal: Mutex<Option<SshError>>,
    farewell: Mutex<Option<Farewell>>,
    agreed: Mutex<Agreed>,
}

/// What a connection is protected by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agreed {
    /// How keys are exchanged.
    pub key_exchange: String,
    /// The cipher.
    pub cipher: String,
    /// Type of the host's key.
    pub host_key: String,
    /// Its fingerprint.
    pub fingerprint: String,
}

/// How a connection ended.
#[derive(Debug, Clone)]
pub(super) struct Farewell {
    /// Whether the host said so itself.
    pub(super) by_host: bool,
    /// In whose words ever.
    pub(super) reason: String,
}

impl Notes {
    /// Why the handler refused to go on, once.
    pub(super) fn take_refusal(&self) -> Option<SshError> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// How the connection ended.
    pub(super) fn farewell(&self) -> Option<Farewell> {
        self.farewell
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What both sides agreed on.
    pub(super) fn agreed(&self) -> Agreed {
        self.agreed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn agree(&self, change: impl FnOnce(&mut Agreed)) {
        change(&mut self.agreed.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn refuse(&self, error: SshError) {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

/// Our side of one connection.
pub(super) struct Client {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) known_hosts: KnownHosts,
    pub(super) notes: Arc<Notes>,
    /// Dropped with the connection's task.
    pub(super) _closed: DropGuard,
}

impl Client {
    fn check(&self, key: &PublicKeyOrCertificate) -> Result<(), SshError> {
        let host = self.endpoint.name.clone();
        let key = match key {
            PublicKeyOrCertificate::PublicKey { key, .. } => key,
            // None is ever offered, so a server that shows one is not playing by the rules.
            PublicKeyOrCertificate::Certificate(_) => {
                let reason = "it showed a host certificate that was not asked for".to_owned();
                return Err(SshError::Handshake { host, reason });
            }
        };
        let encoded = key.to_bytes().map_err(|error| SshError::Handshake {
            host: host.clone(),
            reason: error.to_string(),
        })?;
        self.notes.agree(|agreed| {
            agreed.host_key = key.algorithm().as_str().to_owned();
            agreed.fingerprint = fingerprint(&encoded);
        });
        let decision = self.known_hosts.check(&encoded);
        // That it is revoked is the worse news.
        if !matches!(decision, Decision::Revoked { .. }) {
            strong_enough(&host, key)?;
        }
        self.judge(decision, key.algorithm().as_str().to_owned(), &encoded)
    }

    fn judge(&self, decision: Decision, key_type: String, encoded: &[u8]) -> Result<(), SshError> {
        let host = self.endpoint.name.clone();
        let shown = || {
            let key_name = self.endpoint.key_name();
            Box::new(ShownKey {
                key_line: super::known_hosts::key_line(&key_name, &key_type, encoded),
                key_name,
                key_type: key_type.clone(),
                fingerprint: fingerprint(encoded),
            })
        };
        match decision {
            Decision::Known => Ok(()),
            Decision::Unknown => Err(SshError::HostKeyUnknown { host, shown: shown() }),
            Decision::Changed { recorded } => Err(SshError::HostKeyChanged {
                host,
                shown: shown(),
                recorded,
            }),
            Decision::Certificate { file, line } => Err(SshError::HostCertificate { host, file, line }),
            Decision::Revoked { file, line } => {
                let fingerprint = fingerprint(encoded);
                Err(SshError::HostKeyRevoked {
                    host,
                    fingerprint,
                    file,
                    line,
                })
            }
        }
    }
}

fn strong_enough(host: &str, key: &PublicKey) -> Result<(), SshError> {
    match key.key_data().rsa() {
        Some(rsa) if rsa.key_size() < LEAST_RSA_BITS => Err(SshError::HostKeyWeak {
            host: host.to_owned(),
            reason: format!(
                "RSA with {} bits, at least {LEAST_RSA_BITS} are needed",
                rsa.key_size()
            ),
        }),
        _ => Ok(()),
    }
}

impl Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        match self.check(key) {
            Ok(()) => Ok(true),
            Err(error) => {
                self.notes.refuse(error);
                Ok(false)
            }
        }
    }

    async fn kex_done(
        &mut self,
        _shared_secret: Option<&[u8]>,
        names: &Names,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.notes.agree(|agreed| {
            agreed.key_exchange = names.kex.as_ref().to_owned();
            agreed.cipher = names.cipher.as_ref().to_owned();
        });
        // Without strict key exchange, packets can be cut out of a ChaCha20 stream unseen (Terrapin).
        if names.cipher == cipher::CHACHA20_POLY1305 && !names.strict_kex() {
            self.notes.refuse(SshError::Handshake {
                host: self.endpoint.name.clone(),
                reason: "it offers chacha20-poly1305 without strict key exchange".to_owned(),
            });
            return Err(russh::Error::Kex);
        }
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<russh::Error>) -> Result<(), russh::Error> {
        let (by_host, text, outcome) = match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                (true, info.message.chars().take(300).collect(), Ok(()))
            }
            DisconnectReason::Error(error) => (false, error.to_string(), Err(error)),
        };
        *self.notes.farewell.lock().unwrap_or_else(PoisonError::into_inner) = Some(Farewell {
            by_host,
            reason: text,
        });
        outcome
    }

    // A host may open no channel to us: dropping the handle refuses it.

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _connected_address: &str,
        _connected_port: u32,
        _originator_address: &str,
        _originator_port: u32,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _socket_path: &str,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _channel: Channel<Msg>,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _host_to_connect: &str,
        _port_to_connect: u32,
        _originator_address: &str,
        _originator_port: u32,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _socket_path: &str,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _channel: Channel<Msg>,
        _originator_address: &str,
        _originator_port: u32,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }
}

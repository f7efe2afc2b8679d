//! Opening a conversation.

use super::session::{Peer, Session};
use crate::queue::DockerSettings;
use crate::record::{boot_id, host_id, make_private_folder};
use chrono::Utc;
use farrun_protocol::message::{Hello, HelloReply};
use farrun_protocol::{ErrorCode, Failure, PROTOCOL, Reply};

pub(crate) async fn hello(session: &Session, hello: Hello) -> Result<Reply, Failure> {
    if hello.protocol != PROTOCOL {
        let problem = format!("the agent speaks protocol {PROTOCOL}, not {}", hello.protocol);
        return Err(Failure::new(ErrorCode::Protocol, problem));
    }
    let context = &session.context;
    for folder in ["", "agents", "blobs/incoming", "runs", "queue"] {
        make_private_folder(&context.state.join(folder))?;
    }
    let host_id = host_id(&context.state)?;
    let docker = DockerSettings {
        sudo: hello.docker_sudo,
        host: hello.docker_host,
    };
    let peer = Peer::new(context, hello.controller_id, docker)?;
    peer.engine.agree_ahead();
    session.set_peer(peer)?;
    Ok(Reply::Hello(HelloReply {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        agent_sha256: context.agent_sha256.clone(),
        host_id,
        boot_id: boot_id(),
        machine: rustix::system::uname().machine().to_string_lossy().into_owned(),
        state: context.state.to_string_lossy().into_owned(),
        now: Utc::now(),
    }))
}

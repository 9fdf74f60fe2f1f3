//! Networks of a container that runs, or not: connect, disconnect, and the events of both.

use std::sync::Arc;

use hull_api::network::EndpointSettings;
use hull_state::{containers, networks as rows};

use super::Task;
use super::prepare;
use crate::admit::{Admitted, Request};
use crate::error::{Error, Result};
use crate::networks::plane::{self, Attachment};
use crate::record::{ContainerRecord, NetworkMode};
use crate::undo::Undo;
use crate::world::blocking;

impl Task {
    /// The network's own event about this container.
    pub(super) fn emit_network(&self, action: &str, attachment: &Attachment) {
        let network = &attachment.network.network;
        let attributes = [
            ("container".to_owned(), self.record.id.clone()),
            ("name".to_owned(), network.name.clone()),
            ("type".to_owned(), network.driver.clone()),
        ];
        self.world
            .events
            .publish("network", action, &network.id, attributes.into());
    }

    pub(super) async fn connect(
        &mut self,
        network: &str,
        settings: EndpointSettings,
    ) -> Result<()> {
        let admitted = self.admit(Request::Network)?;
        let wanted = network.to_owned();
        let found = blocking(&self.world, move |world| world.plane.find(&wanted)).await?;
        let name = found.network.name.clone();
        self.check_connect(&name, found.network.driver.as_str(), &settings, &found)?;
        let mut settings = settings;
        settings.network_id.clone_from(&found.network.id);
        let mut record = (*self.record).clone();
        // A container without any network leaves `none` when it gets one.
        if let NetworkMode::None = self.record.network_mode() {
            return Err(Error::invalid(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode",
            ));
        }
        record.networks.insert(name.clone(), settings.clone());
        if admitted != Admitted::RecordOnly && self.shim.is_some() {
            self.connect_live(&name, settings, record).await?;
        } else {
            self.save_record(record)?;
        }
        self.publish();
        Ok(())
    }

    fn check_connect(
        &self,
        name: &str,
        driver: &str,
        settings: &EndpointSettings,
        found: &plane::NetworkRecord,
    ) -> Result<()> {
        match self.record.network_mode() {
            NetworkMode::Container(_) => {
                return Err(Error::invalid(
                    "container sharing network namespace with another container or host cannot be connected to any other network",
                ));
            }
            NetworkMode::Host => {
                return Err(Error::invalid(
                    "cannot connect container to host network - container must be created in host network mode",
                ));
            }
            NetworkMode::Bridge | NetworkMode::None | NetworkMode::Named(_) => {}
        }
        if driver == "host" {
            return Err(Error::invalid(
                "cannot connect container to host network - container must be created in host network mode",
            ));
        }
        if self.record.networks.contains_key(name) {
            return Err(Error::new(
                crate::error::Kind::Forbidden,
                format!(
                    "endpoint with name {} already exists in network {name}",
                    self.record.name
                ),
            ));
        }
        crate::containers::validate::endpoint(name, settings, found)
    }

    /// Connects a container that runs; `with` is its record with the network in it. What a death leaves before that record is
    /// written no container lists, and boot takes it away again.
    async fn connect_live(
        &mut self,
        name: &str,
        settings: EndpointSettings,
        with: ContainerRecord,
    ) -> Result<()> {
        let (record, name) = (self.record.clone(), name.to_owned());
        let id = record.id.clone();
        let mut undo = Undo::new();
        let leased = blocking(&self.world, move |world| {
            prepare::lease_one(world, &record, &name, &settings)
        })
        .await?;
        {
            let (world, leased) = (self.world.clone(), leased.clone());
            let (record, left) = (self.record.clone(), self.attachments.clone());
            undo.push("the end in the network", async move {
                blocking(&world, move |world| {
                    let failpoints = &world.options.failpoints;
                    let dropped = world.plane.drop_endpoint(&record.id, &leased, failpoints);
                    prepare::without_dns(world, &record, &leased, &left).and(dropped)
                })
                .await
            });
        }
        let first_named = leased.network.has_dns()
            && !self
                .attachments
                .iter()
                .any(|attachment| attachment.network.has_dns());
        let record = self.record.clone();
        let connected = blocking(&self.world, move |world| {
            let mut attachment = leased;
            world.options.failpoints.pass("network.connect.leased")?;
            if first_named {
                prepare::start_dns(world, &record)?;
            }
            world.plane.connect(&id, &mut attachment)?;
            world.options.failpoints.pass("network.connect.applied")?;
            world.db.try_write(|tx| {
                plane::record_connected(tx, std::slice::from_ref(&attachment))?;
                Ok::<_, Error>(containers::set_record(tx, &with.id, &with.encode()?)?)
            })?;
            Ok((attachment, with))
        })
        .await;
        match connected {
            Ok((attachment, with)) => {
                undo.disarm();
                self.record = Arc::new(with);
                self.emit_network("connect", &attachment);
                let mut attachments = (*self.attachments).clone();
                attachments.push(attachment);
                self.attachments = Arc::new(attachments);
                Ok(())
            }
            Err(error) => Err(undo.unwind(error).await),
        }
    }

    /// `force` is for ends whose container is gone; one that is there and not connected is an error either way.
    pub(super) async fn disconnect(&mut self, network: &str, _force: bool) -> Result<()> {
        self.admit(Request::Network)?;
        let wanted = network.to_owned();
        let found = blocking(&self.world, move |world| world.plane.find(&wanted)).await?;
        let name = found.network.name.clone();
        if let NetworkMode::Host = self.record.network_mode()
            && name == "host"
        {
            return Err(Error::new(
                crate::error::Kind::Forbidden,
                "container cannot be disconnected from host network",
            ));
        }
        let known = self.record.networks.contains_key(&name);
        if !known {
            return Err(Error::new(
                crate::error::Kind::Forbidden,
                format!(
                    "container {} is not connected to network {name}",
                    self.record.id
                ),
            ));
        }
        let mut record = (*self.record).clone();
        record.networks.remove(&name);
        let at = self
            .attachments
            .iter()
            .position(|attachment| attachment.network.network.id == found.network.id);
        // First: what a death leaves after this no container lists, and boot takes it away.
        self.save_record(record)?;
        if let Some(at) = at {
            let mut attachments = (*self.attachments).clone();
            let attachment = attachments.remove(at);
            self.attachments = Arc::new(attachments);
            self.publish();
            let (id, leaving) = (self.record.id.clone(), attachment.clone());
            let (record, left) = (self.record.clone(), self.attachments.clone());
            blocking(&self.world, move |world| {
                let failpoints = &world.options.failpoints;
                let dropped = world.plane.drop_endpoint(&id, &leaving, failpoints);
                prepare::without_dns(world, &record, &leaving, &left).and(dropped)
            })
            .await?;
            self.emit_network("disconnect", &attachment);
        } else {
            self.publish();
        }
        Ok(())
    }

    /// Forgets what this container calls another, in its hosts file too while it runs.
    pub(super) async fn remove_link(&mut self, alias: &str) -> Result<()> {
        self.admit(Request::Network)?;
        let mut record = (*self.record).clone();
        record.links.retain(|link| link.alias != alias);
        if record.links.len() == self.record.links.len() {
            return Err(Error::not_found(format!(
                "No such container: {}/{alias}",
                record.name
            )));
        }
        self.save_record(record)?;
        self.publish();
        if self.shim.is_some() {
            let (record, attachments) = (self.record.clone(), self.attachments.clone());
            let written = blocking(&self.world, move |world| {
                prepare::rewrite_hosts(world, &record, &attachments)
            })
            .await;
            if let Err(error) = written {
                // The link is gone all the same; its line stays until the next start, as in Docker.
                tracing::debug!(container = %self.record.id, %error, "write the hosts file without a link");
            }
        }
        Ok(())
    }

    /// The names that DNS answers for this container, after a rename.
    pub(super) async fn rename_endpoints(&mut self, name: &str) {
        let mut attachments = (*self.attachments).clone();
        for attachment in &mut attachments {
            attachment.endpoint.container_name = name.to_owned();
            attachment.endpoint.names = vec![
                name.to_owned(),
                crate::id::short(&self.record.id).to_owned(),
            ];
        }
        let (id, renamed) = (self.record.id.clone(), attachments.clone());
        let done = blocking(&self.world, move |world| {
            for attachment in &renamed {
                let text = serde_json::to_string(&attachment.endpoint)
                    .map_err(crate::error::failed("encode an endpoint"))?;
                world
                    .db
                    .write(|tx| rows::set_endpoint_record(tx, &attachment.endpoint.id, &text))?;
                if attachment.network.has_dns() {
                    world.plane.host.dns_unregister(&attachment.endpoint.id);
                    world.plane.host.dns_register(
                        &id,
                        &attachment.network.network,
                        &attachment.endpoint,
                    );
                }
            }
            Ok(())
        })
        .await;
        if let Err(error) = done {
            tracing::warn!(container = %self.record.id, %error, "rename in DNS");
        }
        self.attachments = Arc::new(attachments);
    }
}

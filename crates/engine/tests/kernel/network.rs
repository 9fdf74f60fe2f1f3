//! Networks as containers see them.

use hull_api::host::PortBinding;
use hull_api::network::{NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest};
use std::io::{Read, Write};

use crate::case;
use crate::fixture::{Case, Fixture};

pub const CASES: &[Case] = &[
    case!(published_port),
    case!(user_defined_network),
    case!(other_modes),
    case!(disconnect_after_a_restart_of_the_daemon),
];

fn get(address: &str) -> std::io::Result<String> {
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

async fn published_port() {
    let fixture = Fixture::new().await;
    let mut request =
        Fixture::sh("mkdir /www; echo page > /www/index.html; exec httpd -f -p 80 -h /www");
    request
        .host_config
        .port_bindings
        .insert("80/tcp".to_owned(), Some(vec![PortBinding::default()]));
    let id = fixture.run("web", request).await;
    let inspect = fixture.engine.containers.inspect(&id, false).await.unwrap();
    let bindings = inspect.network_settings.ports["80/tcp"].clone().unwrap();
    let port = bindings[0].host_port.clone();
    assert_ne!(port, "0");
    let mut page = String::new();
    for _ in 0..50 {
        match get(&format!("127.0.0.1:{port}")) {
            Ok(text) => {
                page = text;
                break;
            }
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
    assert!(page.contains("page"), "{page}");
    // The same port again, while it is taken.
    let mut request = Fixture::sh("sleep 1");
    let binding = PortBinding {
        host_ip: String::new(),
        host_port: port.clone(),
    };
    request
        .host_config
        .port_bindings
        .insert("80/tcp".to_owned(), Some(vec![binding]));
    let other = fixture.create("other", request).await;
    let error = fixture.engine.containers.start(&other).await.unwrap_err();
    assert!(
        error.message.contains("already allocated")
            || error.message.contains("address already in use"),
        "{}",
        error.message
    );
    fixture.remove(&id).await;
    fixture.engine.containers.start(&other).await.unwrap();
    fixture.remove(&other).await;
    fixture.finish().await;
}

async fn user_defined_network() {
    let fixture = Fixture::new().await;
    let request = NetworkCreateRequest {
        name: "appnet".into(),
        ..NetworkCreateRequest::default()
    };
    let network = fixture
        .engine
        .networks
        .create(request.clone())
        .await
        .unwrap();
    assert!(
        fixture
            .engine
            .networks
            .create(request)
            .await
            .unwrap_err()
            .message
            .contains("network with name appnet already exists")
    );
    let mut request = Fixture::sh("exec sleep 1000");
    request.host_config.network_mode = "appnet".into();
    let server = fixture.run("server", request).await;
    let mut request = Fixture::sh(
        "nslookup server; ping -c 1 -W 2 server; cat /etc/resolv.conf; exec sleep 1000",
    );
    request.host_config.network_mode = "appnet".into();
    let client = fixture.run("client", request).await;
    let mut log = String::new();
    for _ in 0..60 {
        log = fixture.log(&client).await;
        if log.contains("nameserver 127.0.0.11") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(log.contains("1 packets received"), "{log}");
    let inspect = fixture
        .engine
        .networks
        .inspect("appnet", false, "")
        .await
        .unwrap();
    assert_eq!(inspect.containers.unwrap().len(), 2);
    assert!(
        fixture
            .engine
            .networks
            .remove(&network.id)
            .await
            .unwrap_err()
            .message
            .contains("has active endpoints")
    );
    // Into the default bridge and out again, while it runs.
    let request = NetworkConnectRequest {
        container: client.clone(),
        endpoint_config: None,
    };
    fixture
        .engine
        .networks
        .connect("bridge", request)
        .await
        .unwrap();
    let settings = fixture
        .engine
        .containers
        .inspect(&client, false)
        .await
        .unwrap()
        .network_settings;
    assert_eq!(settings.networks.len(), 2);
    assert!(
        settings
            .networks
            .values()
            .all(|network| !network.ip_address.is_empty())
    );
    let request = NetworkDisconnectRequest {
        container: client.clone(),
        force: false,
    };
    fixture
        .engine
        .networks
        .disconnect("bridge", request)
        .await
        .unwrap();
    fixture.remove(&server).await;
    fixture.remove(&client).await;
    fixture.finish().await;
}

async fn other_modes() {
    let fixture = Fixture::new().await;
    let mut request = Fixture::sh("ip addr | grep -c mtu");
    request.host_config.network_mode = "none".into();
    let (code, log) = fixture.output("none", request).await;
    assert_eq!((code, log.trim()), (0, "1"));
    let mut request = Fixture::sh("ip addr");
    request.host_config.network_mode = "host".into();
    let (code, log) = fixture.output("host", request).await;
    assert_eq!(code, 0);
    assert!(
        log.contains(fixture.options.bridge.name.as_deref().unwrap()),
        "{log}"
    );
    let first = fixture.run("first", Fixture::sh("exec sleep 1000")).await;
    let address = fixture
        .engine
        .containers
        .inspect(&first, false)
        .await
        .unwrap()
        .network_settings
        .networks["bridge"]
        .ip_address
        .clone();
    let mut request = Fixture::sh("ip addr");
    request.host_config.network_mode = "container:first".into();
    let (code, log) = fixture.output("second", request).await;
    assert_eq!(code, 0);
    assert!(log.contains(&address), "{log}");
    fixture.remove(&first).await;
    fixture.finish().await;
}

/// A later daemon knows which interface belongs to which network.
async fn disconnect_after_a_restart_of_the_daemon() {
    let mut fixture = Fixture::new().await;
    let request = NetworkCreateRequest {
        name: "second".into(),
        ..NetworkCreateRequest::default()
    };
    fixture.engine.networks.create(request).await.unwrap();
    let id = fixture.run("both", Fixture::sh("exec sleep 1000")).await;
    let pid = fixture.pid(&id).await;
    let request = NetworkConnectRequest {
        container: id.clone(),
        endpoint_config: None,
    };
    fixture
        .engine
        .networks
        .connect("second", request)
        .await
        .unwrap();
    let links = || std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap();
    assert!(links().contains("eth0:") && links().contains("eth1:"));
    fixture = fixture.reopen().await;
    for (network, link) in [("second", "eth1:"), ("bridge", "eth0:")] {
        let request = NetworkDisconnectRequest {
            container: id.clone(),
            force: false,
        };
        fixture
            .engine
            .networks
            .disconnect(network, request)
            .await
            .unwrap();
        assert!(!links().contains(link), "{}", links());
    }
    fixture.remove(&id).await;
    fixture.finish().await;
}

//! Devices by CDI files in a real container.

use crate::case;
use crate::fixture::{Case, Fixture};

pub const CASES: &[Case] = &[case!(a_cdi_device_comes_with_all_that_it_needs)];

async fn a_cdi_device_comes_with_all_that_it_needs() {
    let fixture =
        Fixture::with(|options, root| options.cdi_spec_dirs = vec![root.join("cdi")]).await;
    let (cdi, shared) = (fixture.root.join("cdi"), fixture.root.join("shared"));
    std::fs::create_dir_all(&cdi).unwrap();
    std::fs::create_dir_all(&shared).unwrap();
    std::fs::write(shared.join("file"), "of the vendor\n").unwrap();
    let hooked = fixture.root.join("hooked");
    let text = format!(
        "cdiVersion: 0.5.0\nkind: vendor.com/thing\ndevices:\n- name: one\n  containerEdits:\n    env: [THING=one]\n    \
         deviceNodes:\n    - {{path: /dev/thing, hostPath: /dev/zero}}\n    \
         mounts:\n    - {{hostPath: {}, containerPath: /vendor/lib, options: [ro, rbind]}}\n    \
         hooks:\n    - {{hookName: createRuntime, path: /bin/touch, args: [touch, {}]}}\n",
        shared.display(),
        hooked.display()
    );
    std::fs::write(cdi.join("vendor.yaml"), text).unwrap();
    let info = fixture.engine.system.info().await.unwrap();
    assert_eq!(info.cdi_spec_dirs, [cdi.display().to_string()]);
    assert_eq!(info.discovered_devices.len(), 1);
    assert_eq!(info.discovered_devices[0].id, "vendor.com/thing=one");
    let request = |name: &str| {
        let mut request = Fixture::sh(
            "echo $THING; cat /vendor/lib/file; head -c 3 /dev/thing | wc -c; echo x > /vendor/lib/x",
        );
        request.host_config.network_mode = "none".to_owned();
        request.host_config.resources.device_requests = vec![hull_api::host::DeviceRequest {
            driver: "cdi".to_owned(),
            device_ids: vec![format!("vendor.com/thing={name}")],
            ..Default::default()
        }];
        request
    };
    let (code, log) = fixture.output("cdi", request("one")).await;
    // What goes to standard error comes by another pipe, before or after.
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| !line.starts_with("sh:"))
        .collect();
    assert_eq!(lines, ["one", "of the vendor", "3"]);
    assert!(code != 0 && log.contains("Read-only file system"), "{log}");
    assert!(hooked.exists(), "the hook was called");
    let id = fixture.create("none", request("two")).await;
    let error = fixture
        .engine
        .containers
        .start(&id)
        .await
        .unwrap_err()
        .message;
    assert!(
        error.contains("unresolvable CDI devices vendor.com/thing=two"),
        "{error}"
    );
    fixture.remove(&id).await;
    fixture.finish().await;
}

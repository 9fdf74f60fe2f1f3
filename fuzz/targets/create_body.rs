//! Any bytes as the body of `POST /containers/create` and of the other requests with large bodies: refused, or read; and what is read can be written.
#![no_main]

use hull_api::container::{ContainerCreateRequest, UpdateConfig};
use hull_api::exec::ExecConfig;
use hull_api::version::{Version, adapt_create};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(mut request) = ContainerCreateRequest::from_slice(bytes) {
        let _ = adapt_create(Version::CURRENT, false, &mut request);
        let text = serde_json::to_vec(&request).expect("it can be written");
        let again = ContainerCreateRequest::from_slice(&text);
        assert_eq!(again.expect("its own writing can be read"), request);
    }
    let _ = UpdateConfig::from_slice(bytes);
    let _ = hull_api::json::from_slice::<ExecConfig>(bytes);
});

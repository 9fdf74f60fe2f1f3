//! The commands: one file each, and the table of their words.

mod attach;
mod autostart;
mod container_config;
mod container_flags;
mod create;
mod each;
mod exec;
mod images;
mod info;
mod inspect;
mod logs;
mod ps;
mod pull;
mod rm;
mod run;
mod simple;
mod start;
mod version;
mod wait;

use crate::registry::{Arity, Entry, Group};

/// Words with commands below them.
pub const GROUPS: &[Group] = &[
    Group {
        name: "container",
        about: "Manage containers",
        hidden: false,
    },
    Group {
        name: "image",
        about: "Manage images",
        hidden: false,
    },
    Group {
        name: "network",
        about: "Manage networks",
        hidden: false,
    },
    Group {
        name: "system",
        about: "Manage Docker",
        hidden: false,
    },
    Group {
        name: "volume",
        about: "Manage volumes",
        hidden: false,
    },
];

const MANY: &str = "[OPTIONS] CONTAINER [CONTAINER...]";

/// All commands.
pub const ENTRIES: &[Entry] = &[
    Entry::new::<attach::Attach>(
        &["container attach", "attach"],
        "[OPTIONS] CONTAINER",
        "Attach local standard input, output, and error streams to a running container",
        Arity::Exactly(1),
    ),
    Entry::new::<create::Create>(
        &["container create", "create"],
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create a new container",
        Arity::AtLeast(1),
    )
    .flags_first(),
    Entry::new::<exec::Exec>(
        &["container exec", "exec"],
        "[OPTIONS] CONTAINER COMMAND [ARG...]",
        "Execute a command in a running container",
        Arity::AtLeast(2),
    )
    .flags_first(),
    Entry::new::<images::Images>(
        &["image ls", "image list", "images"],
        "[OPTIONS] [REPOSITORY[:TAG]]",
        "List images",
        Arity::AtMost(1),
    ),
    Entry::new::<info::Info>(
        &["system info", "info"],
        "[OPTIONS]",
        "Display system-wide information",
        Arity::None,
    ),
    Entry::new::<inspect::Inspect>(
        &["inspect"],
        "[OPTIONS] NAME|ID [NAME|ID...]",
        "Return low-level information on Docker objects",
        Arity::AtLeast(1),
    ),
    Entry::new::<inspect::ContainerInspect>(
        &["container inspect"],
        MANY,
        "Display detailed information on one or more containers",
        Arity::AtLeast(1),
    ),
    Entry::new::<inspect::ImageInspect>(
        &["image inspect"],
        "[OPTIONS] IMAGE [IMAGE...]",
        "Display detailed information on one or more images",
        Arity::AtLeast(1),
    ),
    Entry::new::<inspect::NetworkInspect>(
        &["network inspect"],
        "[OPTIONS] NETWORK [NETWORK...]",
        "Display detailed information on one or more networks",
        Arity::AtLeast(1),
    ),
    Entry::new::<inspect::VolumeInspect>(
        &["volume inspect"],
        "[OPTIONS] VOLUME [VOLUME...]",
        "Display detailed information on one or more volumes",
        Arity::AtLeast(1),
    ),
    Entry::new::<simple::Kill>(
        &["container kill", "kill"],
        MANY,
        "Kill one or more running containers",
        Arity::AtLeast(1),
    ),
    Entry::new::<logs::Logs>(
        &["container logs", "logs"],
        "[OPTIONS] CONTAINER",
        "Fetch the logs of a container",
        Arity::Exactly(1),
    ),
    Entry::new::<simple::Pause>(
        &["container pause", "pause"],
        "CONTAINER [CONTAINER...]",
        "Pause all processes within one or more containers",
        Arity::AtLeast(1),
    ),
    Entry::new::<ps::Ps>(
        &["container ls", "container list", "container ps", "ps"],
        "[OPTIONS]",
        "List containers",
        Arity::None,
    ),
    Entry::new::<pull::Pull>(
        &["image pull", "pull"],
        "[OPTIONS] NAME[:TAG|@DIGEST]",
        "Download an image from a registry",
        Arity::Exactly(1),
    ),
    Entry::new::<simple::Rename>(
        &["container rename", "rename"],
        "CONTAINER NEW_NAME",
        "Rename a container",
        Arity::Exactly(2),
    ),
    Entry::new::<simple::Restart>(
        &["container restart", "restart"],
        MANY,
        "Restart one or more containers",
        Arity::AtLeast(1),
    ),
    Entry::new::<rm::Rm>(
        &["container rm", "container remove", "rm"],
        MANY,
        "Remove one or more containers",
        Arity::AtLeast(1),
    ),
    Entry::new::<run::Run>(
        &["container run", "run"],
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create and run a new container from an image",
        Arity::AtLeast(1),
    )
    .flags_first(),
    Entry::new::<start::Start>(
        &["container start", "start"],
        MANY,
        "Start one or more stopped containers",
        Arity::AtLeast(1),
    ),
    Entry::new::<simple::Stop>(
        &["container stop", "stop"],
        MANY,
        "Stop one or more running containers",
        Arity::AtLeast(1),
    ),
    Entry::new::<simple::Unpause>(
        &["container unpause", "unpause"],
        "CONTAINER [CONTAINER...]",
        "Unpause all processes within one or more containers",
        Arity::AtLeast(1),
    ),
    Entry::new::<version::Version>(
        &["version"],
        "[OPTIONS]",
        "Show the Docker version information",
        Arity::None,
    ),
    Entry::new::<wait::Wait>(
        &["container wait", "wait"],
        "CONTAINER [CONTAINER...]",
        "Block until one or more containers stop, then print their exit codes",
        Arity::AtLeast(1),
    ),
    Entry::new::<autostart::Daemonize>(&["__daemonize"], "", "", Arity::AtLeast(0))
        .flags_first()
        .hidden(),
];

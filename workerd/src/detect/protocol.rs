//! The names of everything that can be detected.

/// Declares [`Protocol`] with its wire names.
macro_rules! protocols {
    ($($variant:ident $name:literal)*) => {
        /// A protocol, as small as a flow's memory wants it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
        #[repr(u8)]
        pub enum Protocol {
            /// Nothing is known.
            #[default]
            Unknown,
            $(#[doc = $name] $variant,)*
        }

        impl Protocol {
            /// All of them, [`Protocol::Unknown`] first.
            pub const ALL: &[Self] = &[Self::Unknown, $(Self::$variant,)*];

            /// Its name on the wire, in `PacketMetadata.protocol`; empty for [`Protocol::Unknown`].
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    Self::Unknown => "",
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

protocols! {
    Sip "SIP"
    Rtp "RTP"
    Rtcp "RTCP"
    Srtp "SRTP"
    Grpc "gRPC"
    Http2 "HTTP2"
    Dns "DNS"
    Quic "QUIC"
    Dhcp "DHCP"
    Bootp "BOOTP"
    Tls "TLS"
    Ntp "NTP"
    OpenVpn "OpenVPN"
    L2tp "L2TP"
    Pptp "PPTP"
    IkeV2 "IKEv2"
    IkeV1 "IKEv1"
    Ssh "SSH"
    Snmp "SNMP"
    WireGuard "WireGuard"
    Imap "IMAP"
    Ftp "FTP"
    Smtp "SMTP"
    Pop3 "POP3"
    Arp "ARP"
    WebSocket "WebSocket"
    MySql "MySQL"
    PostgreSql "PostgreSQL"
    MongoDb "MongoDB"
    Redis "Redis"
    Icmp "ICMP"
    IcmpV6 "ICMPv6"
    Telnet "Telnet"
    Http "HTTP"
    Stun "STUN"
    Turn "TURN"
    Dtls "DTLS"
    Rtsp "RTSP"
    Msrp "MSRP"
    Mgcp "MGCP"
    Megaco "Megaco"
    Diameter "Diameter"
    GtpU "GTP-U"
    GtpC "GTP-C"
    Pfcp "PFCP"
    Vxlan "VXLAN"
    Radius "RADIUS"
    M3ua "M3UA"
    T38 "T.38"
    Bgp "BGP"
    Ldap "LDAP"
    Kerberos "Kerberos"
    Smb "SMB"
    Rdp "RDP"
    Mqtt "MQTT"
    Nfs "NFS"
    Ssdp "SSDP"
}

/// How many protocols there are, [`Protocol::Unknown`] included.
pub const COUNT: usize = Protocol::ALL.len();

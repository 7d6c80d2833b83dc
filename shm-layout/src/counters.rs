//! The counters of each process: index, metric name and meaning in one table.
//!
//! Counters are lifetime totals; nothing resets them. Drops on purpose and losses are different
//! counters. The names follow the Prometheus conventions without the `lc_hunt_` prefix.

macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($(#[$help:meta])* $counter:ident = $metric:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum $name { $($(#[$help])* $counter,)* }

        impl $name {
            /// All of them, in the order of their indices.
            pub const ALL: &[Self] = &[$(Self::$counter,)*];

            /// Metric name without prefix.
            #[must_use]
            pub const fn metric(self) -> &'static str {
                match self { $(Self::$counter => $metric,)* }
            }
        }
    };
}

counters! {
    /// What one capture thread counts.
    CaptureCounter {
        /// Packets that the kernel took in for this capture, dropped ones included.
        KernelReceived = "capture_kernel_received_packets_total",
        /// Packets that the kernel dropped because its buffer was full.
        KernelDropped = "capture_kernel_dropped_packets_total",
        /// Packets that the card or its driver dropped.
        InterfaceDropped = "capture_interface_dropped_packets_total",
        /// Packets taken over from the source and let through by the filter expression.
        Captured = "capture_packets_total",
        /// Bytes of those.
        CapturedBytes = "capture_bytes_total",
        /// Packets that the filter expression did not let through, where it is applied after they were taken: those of a file, and of an
        /// interface whose filter the kernel cannot run.
        Rejected = "capture_rejected_packets_total",
        /// Packets dropped because a worker's rx ring was full.
        RingFull = "capture_ring_full_packets_total",
        /// Packets longer than half of an rx ring.
        TooLong = "capture_too_long_packets_total",
        /// Times that an interface was opened again, by the same capd or another.
        Reopened = "capture_reopened_total",
        /// Milliseconds without capture because the interface, or capd, was gone.
        DownMilliseconds = "capture_down_milliseconds_total",
        /// Read errors of the source.
        ReadErrors = "capture_read_errors_total",
        /// Packets that the kernel held for a capture that ended before it took them, where no other could take them either.
        LostWithSocket = "capture_lost_with_socket_packets_total",
        /// Packets that went to the worker that has the call they are media of, not to the one that their flow's hash picks.
        SteeredMedia = "capture_steered_media_packets_total",
    }
}

counters! {
    /// What the reader of the TLS key log counts.
    KeyLogCounter {
        /// Secrets handed to the workers. A log that is read anew counts again.
        Secrets = "key_log_secrets_total",
        /// Lines that have not three fields.
        BadFormat = "key_log_bad_format_lines_total",
        /// Lines whose client random is none.
        BadClientRandom = "key_log_bad_client_random_lines_total",
        /// Lines whose secret is none, or has not the length that its label demands.
        BadSecret = "key_log_bad_secret_lines_total",
        /// Lines that are longer than any that says something.
        TooLong = "key_log_too_long_lines_total",
        /// Times that the log began anew: it was truncated or replaced.
        Restarts = "key_log_restarts_total",
        /// Times that it could not be opened or read, though it is there.
        Errors = "key_log_errors_total",
    }
}

counters! {
    /// What one worker counts.
    WorkerCounter {
        /// Packets taken from the rx rings.
        Received = "worker_received_packets_total",
        /// Bytes of those.
        ReceivedBytes = "worker_received_bytes_total",
        /// Packets put into the tx ring.
        Forwarded = "worker_forwarded_packets_total",
        /// Packet bytes of those.
        ForwardedBytes = "worker_forwarded_bytes_total",
        /// Packets forwarded because a filter matched.
        Matched = "worker_matched_packets_total",
        /// Packets that no filter matched.
        FilteredNoMatch = "worker_filtered_no_match_packets_total",
        /// Packets refused by the no-filter policy.
        FilteredByPolicy = "worker_filtered_by_policy_packets_total",
        /// Packets whose encoding does not fit the tx ring.
        LostTooLong = "worker_lost_too_long_packets_total",
        /// Packets put aside because workers died of them.
        Quarantined = "worker_quarantined_packets_total",
        /// rx records that were malformed.
        CorruptRecords = "worker_corrupt_records_total",
        /// Times that corrupt bytes made the worker give up what an rx ring held.
        CorruptSkips = "worker_corrupt_skips_total",
        /// Times that the worker waited for room in its tx ring.
        TxFullWaits = "worker_tx_full_waits_total",
        /// Filter generations put in force.
        FilterGenerations = "worker_filter_generations_total",
        /// Filters refused because their pattern is malformed.
        FiltersRefused = "worker_filters_refused_total",
        /// Packets of a link type that is not decoded.
        UnknownLinkType = "worker_unknown_link_type_packets_total",
        /// Packets that carry neither IPv4 nor IPv6.
        NotIp = "worker_not_ip_packets_total",
        /// Packets cut in a link-layer header.
        TruncatedLink = "worker_truncated_link_packets_total",
        /// Packets cut in an IP header.
        TruncatedIp = "worker_truncated_ip_packets_total",
        /// Packets cut in a transport header.
        TruncatedTransport = "worker_truncated_transport_packets_total",
        /// Packets with an impossible link-layer header (too many tags).
        MalformedLink = "worker_malformed_link_packets_total",
        /// Packets with an impossible IP header.
        MalformedIp = "worker_malformed_ip_packets_total",
        /// Packets with an impossible transport header.
        MalformedTransport = "worker_malformed_transport_packets_total",
        /// Packets that are IP fragments.
        Fragments = "worker_fragment_packets_total",
        /// Packets that nothing asked for, dropped because the tx ring was nearly full.
        Shed = "worker_shed_packets_total",
        /// Flows begun. Those in the table: these, less the four below.
        FlowsCreated = "worker_flows_created_total",
        /// Flows forgotten after they were silent for too long.
        FlowsIdle = "worker_flows_idle_total",
        /// Flows forgotten after both sides had ended them.
        FlowsOver = "worker_flows_over_total",
        /// Flows forgotten to make room for others, because the flow table was full where they belong.
        FlowsEvicted = "worker_flows_evicted_total",
        /// Flows forgotten because the worker died or was replaced.
        FlowsLost = "worker_flows_lost_total",
        /// Filter generations that could not be put in force.
        FilterGenerationsFailed = "worker_filter_generations_failed_total",
        /// Fields of packets that were compared with no filter, because the packet has too many of them.
        FieldsLeftOut = "worker_fields_left_out_total",
        /// Filters that matched a packet that already told as many filters as it can.
        FiltersLeftOut = "worker_matched_filters_left_out_total",
        /// Calls begun: dialogs, requests that stand by themselves, and media without signalling.
        CallsStarted = "worker_calls_started_total",
        /// Calls that a filter matched, or that are forwarded by policy; each once.
        CallsMatched = "worker_calls_matched_total",
        /// Calls forgotten after their signalling had ended them.
        CallsEnded = "worker_calls_ended_total",
        /// Calls forgotten to make room for others.
        CallsEvicted = "worker_calls_evicted_total",
        /// Calls forgotten because nothing was heard of them for too long.
        CallsTimedOut = "worker_calls_timed_out_total",
        /// Packets put aside until there is a verdict on their call. Those that still wait: these, less the three below.
        Held = "worker_held_packets_total",
        /// Packets put aside and then forwarded; they count as forwarded too.
        HeldForwarded = "worker_held_forwarded_packets_total",
        /// Packets put aside that no verdict asked for; they count as not matched, or as refused by policy, too.
        HeldReleased = "worker_held_released_packets_total",
        /// Packets put aside and then dropped without a verdict, for want of room or because they were too old.
        HeldDropped = "worker_held_dropped_packets_total",
        /// SIP messages.
        SipMessages = "worker_sip_messages_total",
        /// SIP messages that cannot be understood.
        SipMalformed = "worker_sip_malformed_messages_total",
        /// RTP and RTCP packets of calls.
        RtpPackets = "worker_rtp_packets_total",
        /// RTP packets that never came, by their sequence numbers.
        RtpLost = "worker_rtp_lost_packets_total",
        /// RTP packets that came after one with a higher sequence number.
        RtpReordered = "worker_rtp_reordered_packets_total",
        /// Packets that look like media and belong to no known call.
        MediaUnknown = "worker_media_unknown_packets_total",
        /// Gaps in TCP streams: places where segments were never seen.
        TcpSegmentsLost = "worker_tcp_gaps_total",
        /// TCP segments that were not put in order because memory for them was short.
        TcpOutOfMemory = "worker_tcp_out_of_memory_segments_total",
        /// IP datagrams put together from fragments.
        FragmentsCompleted = "worker_fragments_completed_datagrams_total",
        /// IP fragments given up: too old, contradictory, or too many.
        FragmentsDropped = "worker_fragments_dropped_packets_total",
        /// Packets dropped under overload together with the rest of their call; they do not count as shed.
        ShedByCall = "worker_shed_by_call_packets_total",
        /// SIP messages told of without captured bytes, because they began in a packet with others; they count as forwarded packets too.
        ToldApart = "worker_told_apart_messages_total",
        /// Calls that are forwarded and lost packets by the node's own fault: shed, or dropped while held; each once.
        CallsIncomplete = "worker_calls_incomplete_total",
        /// Those packets.
        LostOfCalls = "worker_calls_lost_packets_total",
        /// Digits and other events in RTP of calls, each once.
        RtpEvents = "worker_rtp_events_total",
        /// RTP packets of calls that carry comfort noise.
        RtpNoise = "worker_rtp_comfort_noise_packets_total",
        /// TLS sessions that were decrypted.
        TlsDecrypted = "worker_tls_decrypted_sessions_total",
        /// TLS sessions that were not: their secrets did not come in time, the suite or version is not decrypted, or bytes are missing.
        TlsUndecrypted = "worker_tls_undecrypted_sessions_total",
        /// TLS records that did not open, though secrets of their session are known.
        TlsRecordsFailed = "worker_tls_failed_records_total",
        /// TLS sessions whose secrets went with a packet.
        TlsKeysTold = "worker_tls_keys_told_sessions_total",
        /// DNS messages.
        DnsMessages = "worker_dns_messages_total",
        /// What came in place of a DNS message, and is none.
        DnsMalformed = "worker_dns_malformed_messages_total",
        /// HTTP requests and responses.
        HttpMessages = "worker_http_messages_total",
        /// What came in place of an HTTP message, and is none.
        HttpMalformed = "worker_http_malformed_messages_total",
        /// Hellos of TLS, DTLS and QUIC.
        TlsHellos = "worker_tls_hellos_total",
        /// What came in place of a hello, or of a record behind one, and is none.
        TlsMalformed = "worker_tls_malformed_messages_total",
        /// Commands of SMTP, IMAP and POP3.
        MailCommands = "worker_mail_commands_total",
        /// What came in place of such a command, and is none that is known.
        MailUnknown = "worker_mail_unknown_commands_total",
    }
}

counters! {
    /// What the forwarder counts.
    ForwardCounter {
        /// Packets in batches that the processor acknowledged.
        Acked = "forward_acked_packets_total",
        /// Encoded bytes of those.
        AckedBytes = "forward_acked_bytes_total",
        /// Batches acknowledged.
        AckedBatches = "forward_acked_batches_total",
        /// Batches sent again after a reconnection.
        ResentBatches = "forward_resent_batches_total",
        /// Packets in those.
        ResentPackets = "forward_resent_packets_total",
        /// Packets dropped on the way from memory: given up by the processor, of corrupt records, too long to be sent or
        /// stored, or sacrificed for more important ones.
        Dropped = "forward_dropped_packets_total",
        /// tx records that were malformed.
        CorruptRecords = "forward_corrupt_records_total",
        /// Times that the memory for packets was full.
        MemoryFull = "forward_memory_full_total",
        /// Connections that reached registration.
        Connections = "forward_connections_total",
        /// Connection attempts that failed.
        ConnectionFailures = "forward_connection_failures_total",
        /// Empty batches sent while paused.
        Probes = "forward_probes_total",
        /// Acknowledgements that asked for a pause.
        Pauses = "forward_pauses_total",
        /// Acknowledgements that asked to slow down.
        Slowdowns = "forward_slowdowns_total",
        /// Acknowledgements for a batch that was not waiting for one.
        UnexpectedAcks = "forward_unexpected_acks_total",
        /// Filter updates taken from the processor.
        FilterUpdates = "forward_filter_updates_total",
        /// Packets written to the disk buffer.
        DiskStored = "forward_disk_stored_packets_total",
        /// Packets found in the disk buffer that an earlier run had left there.
        DiskRecovered = "forward_disk_recovered_packets_total",
        /// Packets of the disk buffer that the processor acknowledged; they count as acknowledged too.
        DiskDelivered = "forward_disk_delivered_packets_total",
        /// Packets dropped from the disk buffer for want of room, oldest first.
        DiskDropped = "forward_disk_dropped_packets_total",
        /// Packets not written to the full disk buffer because those in it are more important; they count as dropped
        /// too.
        DiskYielded = "forward_disk_yielded_packets_total",
        /// Packets lost in the disk buffer by damage.
        DiskLost = "forward_disk_lost_packets_total",
        /// Damaged places in the disk buffer.
        DiskDamaged = "forward_disk_damaged_total",
        /// Failures to write to the disk buffer, to read it, or to make it durable.
        DiskErrors = "forward_disk_errors_total",
        /// Attempts to reach a processor, probes of a preferred one included.
        ConnectionAttempts = "forward_connection_attempts_total",
        /// Times that a processor was left alone because it failed too often.
        BreakerOpened = "forward_breaker_opened_total",
        /// Sessions with another processor than the one before.
        ProcessorChanges = "forward_processor_changes_total",
        /// Certificates and keys that were read again and put in force.
        CertificateReloads = "forward_certificate_reloads_total",
        /// Certificates and keys that were read again and are of no use.
        CertificatesRefused = "forward_certificates_refused_total",
    }
}

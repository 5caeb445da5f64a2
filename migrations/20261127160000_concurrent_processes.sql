-- migrate:up

-- The reference to the chunk was checked for each event that was collected, and took most of the time of the COPY. Collect
-- changes the chunk's row in the same transaction, and Lethe deletes no chunk.
ALTER TABLE lethe.collected DROP CONSTRAINT collected_chunk_id_fkey;

-- Two processes that applied the first batches of a month at the same time both created its partition, and one failed.
CREATE OR REPLACE FUNCTION lethe.ensure_event_partitions(at timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    month timestamp := date_trunc('month', at AT TIME ZONE 'UTC');
    name  text;
BEGIN
    FOR step IN 0..1 LOOP
        name := 'event_' || to_char(month, 'YYYY_MM');
        IF to_regclass('lethe.' || name) IS NULL THEN
            PERFORM pg_advisory_xact_lock(hashtext('lethe.ensure_event_partitions'));
        END IF;
        -- Somebody else may have made it while this one waited. to_regclass would use what the session knew before.
        IF NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = 'lethe'::regnamespace AND relname = name) THEN
            EXECUTE format('CREATE TABLE lethe.%I (LIKE lethe.event INCLUDING DEFAULTS)', name);
            EXECUTE format('ALTER TABLE lethe.event ATTACH PARTITION lethe.%I FOR VALUES FROM (%L) TO (%L)',
                           name, month::text || '+00', (month + interval '1 month')::text || '+00');
        END IF;
        month := month + interval '1 month';
    END LOOP;
END
$$;

INSERT INTO lethe.version (version) VALUES ('20261127160000');

-- migrate:down
CREATE OR REPLACE FUNCTION lethe.ensure_event_partitions(at timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    month timestamp := date_trunc('month', at AT TIME ZONE 'UTC');
    name  text;
BEGIN
    FOR step IN 0..1 LOOP
        name := 'event_' || to_char(month, 'YYYY_MM');
        IF to_regclass('lethe.' || name) IS NULL THEN
            PERFORM pg_advisory_xact_lock(hashtext('lethe.ensure_event_partitions'));
        END IF;
        -- Somebody else may have made it while this one waited.
        IF to_regclass('lethe.' || name) IS NULL THEN
            EXECUTE format('CREATE TABLE lethe.%I (LIKE lethe.event INCLUDING DEFAULTS)', name);
            EXECUTE format('ALTER TABLE lethe.event ATTACH PARTITION lethe.%I FOR VALUES FROM (%L) TO (%L)',
                           name, month::text || '+00', (month + interval '1 month')::text || '+00');
        END IF;
        month := month + interval '1 month';
    END LOOP;
END
$$;

ALTER TABLE lethe.collected ADD FOREIGN KEY (chunk_id) REFERENCES lethe.chunk ON DELETE CASCADE;
DELETE FROM lethe.version WHERE version = '20261127160000';

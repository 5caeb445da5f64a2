-- A fingerprint of all row versions in each table of the warehouse. Every insert, update or delete changes it, even an update
-- with the same values.
SELECT 'users', count(*), sum(hashtextextended(ctid::text || xmin, 0)) FROM warehouse.users
UNION ALL
SELECT 'posts', count(*), sum(hashtextextended(ctid::text || xmin, 0)) FROM warehouse.posts
UNION ALL
SELECT 'post_media', count(*), sum(hashtextextended(ctid::text || xmin, 0)) FROM warehouse.post_media
UNION ALL
SELECT 'reposts', count(*), sum(hashtextextended(ctid::text || xmin, 0)) FROM warehouse.reposts
ORDER BY 1;

import com.sun.net.httpserver.*;
import java.net.*;
import java.util.concurrent.*;

public class Http {
    public static void main(String[] args) throws Exception {
        HttpServer s = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])), 0);
        ExecutorService pool = Executors.newFixedThreadPool(8);
        s.setExecutor(pool);
        s.createContext("/", x -> {
            String p = x.getRequestURI().getPath();
            if (p.startsWith("/slow")) try { Thread.sleep(20); } catch (InterruptedException e) { }
            byte[] b = ("java " + p + "\n").getBytes();
            x.sendResponseHeaders(200, b.length);
            x.getResponseBody().write(b);
            x.close();
            if (p.equals("/quit")) new Thread(() -> { s.stop(0); pool.shutdown(); }).start();
        });
        s.start();
    }
}
